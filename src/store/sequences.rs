//! Statements on the sequences of ids. After a restore, a `setval` or on a copy of the tables, a
//! sequence may be behind its table, so that it returns ids that are taken.

use super::{Statement, cell};
use crate::error::Fault;
use pgrx::pg_sys::BuiltinOid::OIDOID;
use pgrx::pg_sys::Oid;
use pgrx::spi::SpiClient;

/// The primary keys of our tables, and the sequence on which the default of the first column
/// depends, whatever its name is by now. Locks nothing.
static KEYS: Statement = Statement::deciding(
    "SELECT c.relname::text, k.conname::text, d.refobjid FROM pg_constraint k \
     JOIN pg_class c ON c.oid = k.conrelid \
     JOIN pg_attrdef a ON a.adrelid = c.oid AND a.adnum = 1 \
     JOIN pg_depend d ON d.classid = 'pg_attrdef'::regclass AND d.objid = a.oid \
      AND d.refclassid = 'pg_class'::regclass AND d.refobjid <> c.oid AND d.refobjsubid = 0 \
     WHERE k.connamespace = 'flashsale'::regnamespace AND k.contype = 'p'",
    &[],
);

/// Waits for a transaction that moves a sequence, and keeps others waiting until this
/// (sub)transaction ends.
static LOCK: Statement = Statement::deciding(
    "SELECT pg_advisory_xact_lock(hashtext('flashsale.sequences'), 0)",
    &[],
);

/// Moves a sequence 1,000 numbers past the ids that can be seen, because open transactions may have
/// written further ids. It still counts in the same steps, so that several servers can have
/// numbers of their own. Nothing undoes the move. Locks no row.
macro_rules! move_past {
    ($id:literal, $table:literal) => {
        Statement::deciding(
            concat!(
                "WITH next AS MATERIALIZED ( \
                     SELECT nextval($1::regclass) AS id, seqincrement AS step \
                     FROM pg_sequence WHERE seqrelid = $1), \
                 last AS MATERIALIZED (SELECT max(",
                $id,
                ") AS id FROM ",
                $table,
                ") SELECT setval($1::regclass, next.id + ((last.id - next.id) / step + 1000) * step) \
                 FROM next, last WHERE next.id <= last.id AND step > 0"
            ),
            &[OIDOID],
        )
    };
}

static MOVE_PAST_ORDERS: Statement = move_past!("order_id", "flashsale.orders");
static MOVE_PAST_PAYMENTS: Statement = move_past!("payment_id", "flashsale.payments");
static MOVE_PAST_MOVEMENTS: Statement = move_past!("movement_id", "flashsale.stock_movements");

/// Whether a row was refused (23505, with this message) because its id is taken. If so, its sequence
/// is moved past the table, unless it is past it by now. Waits for others that do the same; call it
/// in a subtransaction, whose rollback lets them go on.
pub fn move_past_taken(client: &SpiClient<'_>, message: &str) -> Result<bool, Fault> {
    for key in KEYS.run(client, &[])? {
        if !names(message, &cell::<String>(&key, 2)?) {
            continue;
        }
        let statement = match &*cell::<String>(&key, 1)? {
            "orders" => &MOVE_PAST_ORDERS,
            "payments" => &MOVE_PAST_PAYMENTS,
            "stock_movements" => &MOVE_PAST_MOVEMENTS,
            _ => continue,
        };
        let sequence: Oid = cell(&key, 3)?;
        LOCK.run(client, &[])?;
        if statement.count(client, &[sequence.into()])? > 0 {
            pgrx::log!(
                "flashsale: a sequence was behind its table and was moved past it: {message}"
            );
        }
        return Ok(true);
    }
    Ok(false)
}

/// Whether a message is about this key, and not about one whose name only contains that name.
/// PostgreSQL translates messages and quotes names in many ways, but does not change a name.
fn names(message: &str, key: &str) -> bool {
    let of_name = |c: char| c.is_alphanumeric() || c == '_' || c == '$';
    message.split(|c| !of_name(c)).any(|word| word == key)
}

#[cfg(test)]
mod tests {
    use super::names;

    #[test]
    fn a_message_names_a_key_by_its_whole_name() {
        let of = |key: &str| format!("duplicate key value violates unique constraint \"{key}\"");
        assert!(names(&of("orders_pkey"), "orders_pkey"));
        assert!(names(
            "doppelter Schlüsselwert: Unique-Constraint »orders_pkey«",
            "orders_pkey"
        ));
        for other in ["my_orders_pkey", "orders_pkey1", "bestellungenorders_pkey"] {
            assert!(!names(&of(other), "orders_pkey"));
        }
    }
}
