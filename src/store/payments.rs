//! Statements on payments.

use super::{Statement, entry, some};
use crate::error::Fault;
use crate::payment::Charge;
use crate::payment::fate::{Entry, Ledger, Standing, Why};
use pgrx::pg_sys::BuiltinOid::{INT8OID, TEXTOID};
use pgrx::spi::{SpiClient, SpiHeapTupleData};

/// Waits for a transaction that reports a charge for the same unknown order, which has
/// no row to lock: one with a ref and one without would not see each other.
static LOCK_UNKNOWN_ORDER: Statement = Statement::deciding(
    "SELECT pg_advisory_xact_lock(hashtext('flashsale.payments'), ($1 & 2147483647)::integer)",
    &[INT8OID],
);

/// Locks nothing: what a confirm decides on changes only under the order's lock, but
/// for due becoming refunded, which no decision rests on. A row of another order is
/// met by its ref alone; a second charge of a paid order bears on nothing.
static LEDGER: Statement = Statement::deciding(
    "SELECT payment_id, order_id = $1, true, false, status, why \
     FROM flashsale.payments WHERE payment_ref = $2 \
     UNION ALL \
     SELECT payment_id, true, false, payment_ref IS NULL, status, why \
     FROM flashsale.payments \
     WHERE order_id = $1 AND ($2 IS NULL OR payment_ref IS DISTINCT FROM $2) \
       AND (payment_ref IS NULL OR why IS DISTINCT FROM 'duplicate_payment') \
     ORDER BY 1",
    &[INT8OID, TEXTOID],
);

/// Waits for a transaction that inserts the same ref; a ref already there is 23505.
static INSERT: Statement = Statement::deciding(
    "INSERT INTO flashsale.payments (order_id, payment_ref, amount, currency, status, why, due_since) \
     VALUES ($1, $2, $3, $4, CASE WHEN $5 IS NULL THEN 'paid' ELSE 'due' END, $5, \
             CASE WHEN $5 IS NOT NULL THEN clock_timestamp() END) \
     RETURNING payment_id",
    &[INT8OID, TEXTOID, INT8OID, TEXTOID, TEXTOID],
);

/// Locks the payment; a ref that stands elsewhere is 23505.
static FILL_REF: Statement = Statement::deciding(
    "UPDATE flashsale.payments \
     SET payment_ref = $2, amount = coalesce($3, amount), currency = coalesce($4, currency) \
     WHERE payment_id = $1 AND payment_ref IS NULL RETURNING payment_id",
    &[INT8OID, TEXTOID, INT8OID, TEXTOID],
);

/// Rewrites a row of the same transaction.
static MARK_PAID: Statement = Statement::deciding(
    "UPDATE flashsale.payments SET status = 'paid', why = NULL, due_since = NULL \
     WHERE payment_id = $1 RETURNING payment_id",
    &[INT8OID],
);

/// Locks the payment of an order the caller holds.
static MARK_DUE: Statement = Statement::deciding(
    "UPDATE flashsale.payments SET status = 'due', why = 'order_refunded', due_since = clock_timestamp() \
     WHERE order_id = $1 AND status = 'paid' RETURNING payment_id",
    &[INT8OID],
);

/// Waits for the payment's lock; a payment not due is left as it is.
static MARK_REFUNDED: Statement = Statement::deciding(
    "UPDATE flashsale.payments \
     SET status = 'refunded', refunded_at = clock_timestamp(), refund_ref = $2 \
     WHERE payment_ref = $1 AND status = 'due' RETURNING order_id, refund_ref",
    &[TEXTOID, TEXTOID],
);

/// Locks nothing.
static REFUND_STATE: Statement = Statement::deciding(
    "SELECT order_id, refund_ref, status = 'refunded' FROM flashsale.payments WHERE payment_ref = $1",
    &[TEXTOID],
);

pub fn lock_unknown_order(client: &SpiClient<'_>, order_id: i64) -> Result<(), Fault> {
    LOCK_UNKNOWN_ORDER.run(client, &[order_id.into()]).map(drop)
}

/// What is known of the charges of an order and of the ref in question.
pub fn ledger(client: &SpiClient<'_>, charge: &Charge<'_>) -> Result<Ledger, Fault> {
    let mut ledger = Ledger::default();
    for row in LEDGER.run(client, &[charge.order_id.into(), charge.payment_ref.into()])? {
        let found = read_entry(&row)?;
        let slot = match (entry::<bool>(&row, 3)?, entry::<bool>(&row, 4)?) {
            (true, _) if entry::<bool>(&row, 2)? => &mut ledger.same_ref,
            (true, _) => {
                ledger.ref_in_use = true;
                continue;
            }
            (_, true) => &mut ledger.unnamed,
            (_, false) => &mut ledger.settled,
        };
        if slot.is_none_or(|known| known.standing.weight() <= found.standing.weight()) {
            *slot = Some(found);
        }
    }
    Ok(ledger)
}

fn read_entry(row: &SpiHeapTupleData<'_>) -> Result<Entry, Fault> {
    let why = row
        .get::<String>(6)?
        .map(|code| Why::parse(&code).ok_or(Fault::Broken("an unknown why")))
        .transpose()?;
    let standing = match (entry::<String>(row, 5)?.as_str(), why) {
        ("paid", None) => Standing::Paid,
        ("due", Some(why)) => Standing::Due(why),
        ("refunded", Some(why)) => Standing::Refunded(why),
        _ => return Err(Fault::Broken("a payment has no fate")),
    };
    Ok(Entry {
        payment_id: entry(row, 1)?,
        standing,
    })
}

/// Records a charge, as paid or, with a reason, as due.
pub fn insert(client: &SpiClient<'_>, charge: &Charge<'_>, why: Option<Why>) -> Result<i64, Fault> {
    let arguments = [
        charge.order_id.into(),
        charge.payment_ref.into(),
        charge.amount.into(),
        charge.currency.as_deref().into(),
        why.map(|why| why.reason().code()).into(),
    ];
    let row = INSERT
        .first(client, &arguments)?
        .ok_or(Fault::Broken("a payment was not inserted"))?;
    some(&row, 1)
}

pub fn fill_ref(client: &SpiClient<'_>, payment_id: i64, charge: &Charge<'_>) -> Result<(), Fault> {
    let arguments = [
        payment_id.into(),
        charge.payment_ref.into(),
        charge.amount.into(),
        charge.currency.as_deref().into(),
    ];
    written(FILL_REF.count(client, &arguments)?)
}

pub fn mark_paid(client: &SpiClient<'_>, payment_id: i64) -> Result<(), Fault> {
    written(MARK_PAID.count(client, &[payment_id.into()])?)
}

fn written(rows: usize) -> Result<(), Fault> {
    if rows == 1 {
        Ok(())
    } else {
        Err(Fault::Broken("a payment is gone"))
    }
}

/// Makes the payment of an order due, if it has one.
pub fn mark_due(client: &SpiClient<'_>, order_id: i64) -> Result<(), Fault> {
    MARK_DUE.run(client, &[order_id.into()]).map(drop)
}

/// A payment as far as a refund goes.
pub struct Refund {
    pub order_id: i64,
    pub refund_ref: Option<String>,
    pub refunded: bool,
}

/// Makes a payment due refunded; `None` if it is not due.
pub fn mark_refunded(
    client: &SpiClient<'_>,
    payment_ref: &str,
    refund_ref: Option<&str>,
) -> Result<Option<Refund>, Fault> {
    let row = MARK_REFUNDED.first(client, &[payment_ref.into(), refund_ref.into()])?;
    row.map(|row| {
        Ok(Refund {
            order_id: some(&row, 1)?,
            refund_ref: row.get(2)?,
            refunded: true,
        })
    })
    .transpose()
}

pub fn refund_state(client: &SpiClient<'_>, payment_ref: &str) -> Result<Option<Refund>, Fault> {
    let row = REFUND_STATE.first(client, &[payment_ref.into()])?;
    row.map(|row| {
        Ok(Refund {
            order_id: some(&row, 1)?,
            refund_ref: row.get(2)?,
            refunded: some(&row, 3)?,
        })
    })
    .transpose()
}
