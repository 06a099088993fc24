//! Which changes of definitions would lose orders, or a dump that can be restored.

/// What a statement does to a table, a sequence or the schema.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Alteration {
    Dropped,
    /// It gets another name or another schema.
    Moved,
    ColumnAdded,
    ColumnDropped,
    ColumnRenamed,
    /// The column gets another type.
    ColumnRetyped,
    /// Objects are added to the extension, or removed from it.
    MembersChanged,
}

/// What is altered: the extension, its schema, or what lies in that.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Object<'a> {
    Extension,
    Schema,
    /// A table, sequence, view or index.
    Relation(&'a str),
}

/// The tables whose rows pg_dump takes along.
const TABLES: [&str; 5] = ["items", "orders", "payments", "stock_movements", "node"];
const SEQUENCES: [&str; 4] = [
    "items_item_id_seq",
    "orders_order_id_seq",
    "payments_payment_id_seq",
    "stock_movements_movement_id_seq",
];

/// Why an alteration is refused while there are orders, and what to do instead.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    pub message: String,
    pub hint: &'static str,
}

const LOSES_ROWS: &str = "Dump the database first. A superuser who wants to lose the orders sets flashsale.protect_data to off.";
const OWN_TABLE: &str = "pg_dump does not dump the columns of an extension's table, so restoring would lose every order. Keep what you add in a table of your own that refers to flashsale.orders.";
const NOT_DUMPED: &str =
    "pg_dump dumps only the rows of an extension's tables, so restoring would lose every order.";
const NOT_MEMBERS: &str = "pg_dump dumps the rows of the extension's own tables, and nothing else of the extension, so restoring would fail or lose rows.";

/// The refusal of an alteration while there are orders; `None` if it does no harm.
pub fn refusal(object: Object<'_>, alteration: Alteration) -> Option<Refusal> {
    use Alteration::*;
    let (what, is_table) = match object {
        Object::Extension => ("extension flashsale".to_owned(), false),
        Object::Schema => ("schema flashsale".to_owned(), false),
        Object::Relation(name) if TABLES.contains(&name) => {
            (format!("table flashsale.{name}"), true)
        }
        Object::Relation(name) if SEQUENCES.contains(&name) => {
            (format!("sequence flashsale.{name}"), false)
        }
        Object::Relation(_) => return None,
    };
    let (refused, hint) = match alteration {
        Dropped => (format!("{what} cannot be dropped"), LOSES_ROWS),
        Moved => (
            format!("{what} cannot get another name or schema"),
            NOT_DUMPED,
        ),
        MembersChanged => (
            format!("no object can be added to or removed from {what}"),
            NOT_MEMBERS,
        ),
        _ if !is_table => return None,
        ColumnAdded => (format!("{what} cannot get another column"), OWN_TABLE),
        ColumnDropped => (format!("no column of {what} can be dropped"), NOT_DUMPED),
        ColumnRenamed => (format!("no column of {what} can be renamed"), NOT_DUMPED),
        ColumnRetyped => (
            format!("no column of {what} can get another type"),
            NOT_DUMPED,
        ),
    };
    Some(Refusal {
        message: format!("{refused} while there are orders"),
        hint,
    })
}

#[cfg(test)]
mod tests {
    use super::Alteration::*;
    use super::*;

    const ALL: [Alteration; 6] = [
        Dropped,
        Moved,
        ColumnAdded,
        ColumnDropped,
        ColumnRenamed,
        ColumnRetyped,
    ];

    #[test]
    fn every_alteration_of_a_table_is_refused() {
        for table in TABLES {
            for alteration in ALL {
                let refusal = refusal(Object::Relation(table), alteration).expect("a refusal");
                assert!(refusal.message.contains(table), "{refusal:?}");
                assert!(!refusal.hint.is_empty());
            }
        }
    }

    #[test]
    fn the_extension_keeps_its_objects() {
        let refusal = refusal(Object::Extension, MembersChanged).expect("a refusal");
        assert!(
            refusal.message.contains("extension flashsale"),
            "{refusal:?}"
        );
    }

    #[test]
    fn sequences_and_the_schema_are_neither_dropped_nor_moved() {
        for object in SEQUENCES.map(Object::Relation) {
            assert!(refusal(object, Dropped).is_some());
            assert!(refusal(object, Moved).is_some());
            assert_eq!(refusal(object, ColumnAdded), None);
        }
        assert!(refusal(Object::Schema, Moved).is_some());
    }

    #[test]
    fn nothing_else_in_the_schema_is_guarded() {
        for alteration in ALL {
            for name in ["item_status", "orders_pkey", "my_table", ""] {
                assert_eq!(refusal(Object::Relation(name), alteration), None);
            }
        }
    }
}
