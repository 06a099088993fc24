//! Statements on the sequences of ids. After a restore, a `setval` or on a copy of the tables, a
//! sequence may be behind its table, so that it returns ids that are taken.

use super::{Statement, cell, node};
use crate::error::Fault;
use pgrx::pg_sys::BuiltinOid::{INT8OID, OIDOID};
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

/// Moves a sequence 1,000 numbers past the number of the last id that can be seen, because open
/// transactions may have written further ids. It still counts in the same steps. Nothing undoes the
/// move. Locks no row.
static MOVE_PAST: Statement = Statement::deciding(
    "WITH next AS MATERIALIZED ( \
         SELECT nextval($1::regclass) AS number, seqincrement AS step \
         FROM pg_sequence WHERE seqrelid = $1) \
     SELECT setval($1::regclass, number + (($2 - number) / step + 1000) * step) \
     FROM next WHERE number <= $2 AND step > 0",
    &[OIDOID, INT8OID],
);

/// The highest id. Locks nothing.
macro_rules! last {
    ($id:literal, $table:literal) => {
        Statement::deciding(concat!("SELECT max(", $id, ") FROM ", $table), &[])
    };
}

static LAST_ORDER: Statement = last!("order_id", "flashsale.orders");
static LAST_PAYMENT: Statement = last!("payment_id", "flashsale.payments");
static LAST_MOVEMENT: Statement = last!("movement_id", "flashsale.stock_movements");

/// Whether a row was refused (23505, with this message) because its id is taken. If so, its sequence
/// is moved past the table, unless it is past it by now. Waits for others that do the same; call it
/// in a subtransaction, whose rollback lets them go on.
pub fn move_past_taken(client: &SpiClient<'_>, message: &str) -> Result<bool, Fault> {
    for key in KEYS.run(client, &[])? {
        if !names(message, &cell::<String>(&key, 2)?) {
            continue;
        }
        let last = match &*cell::<String>(&key, 1)? {
            "orders" => &LAST_ORDER,
            "payments" => &LAST_PAYMENT,
            "stock_movements" => &LAST_MOVEMENT,
            _ => continue,
        };
        let sequence: Oid = cell(&key, 3)?;
        LOCK.run(client, &[])?;
        let last = node::here()?.number(last_id(client, last)?);
        if MOVE_PAST.count(client, &[sequence.into(), last.into()])? > 0 {
            pgrx::log!(
                "flashsale: a sequence was behind its table and was moved past it: {message}"
            );
        }
        return Ok(true);
    }
    Ok(false)
}

/// The highest id of a table; 0 if the snapshot sees none.
fn last_id(client: &SpiClient<'_>, last: &Statement) -> Result<i64, Fault> {
    let row = last.run(client, &[])?.first();
    Ok(row.get(1)?.unwrap_or_default())
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
