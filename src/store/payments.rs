//! Statements on payments.

use super::{Statement, cell, some};
use crate::error::Fault;
use flashsale_core::charge::{Charge, PaidFor, PaymentOrder};
use flashsale_core::fate::{Entry, Ledger, Standing, Why};
use pgrx::pg_sys::BuiltinOid::{INT8OID, TEXTOID};
use pgrx::spi::{SpiClient, SpiHeapTupleData};

/// Waits for a transaction that reports a charge of the same unknown order. As there is no row to
/// lock, a report with a ref and one without would not see each other.
static LOCK_UNKNOWN_ORDER: Statement = Statement::deciding(
    "SELECT pg_advisory_xact_lock(hashtext('flashsale.payments'), \
                                  coalesce(($1 & 2147483647)::integer, hashtext($2)))",
    &[INT8OID, TEXTOID],
);

/// Locks nothing: what a confirm decides on changes only under the order's lock, except that a due
/// payment becomes refunded, which changes the answer and not what is done. A payment of another
/// order counts only if it has the ref. A second charge of a paid order counts only if it has the
/// ref.
macro_rules! ledger {
    ($same_order:literal, $of_order:literal) => {
        concat!(
            "SELECT payment_id, ",
            $same_order,
            ", true, false, status, why, amount, currency \
             FROM flashsale.payments WHERE payment_ref = $2 \
             UNION ALL \
             SELECT payment_id, true, false, payment_ref IS NULL, status, why, amount, currency \
             FROM flashsale.payments \
             WHERE ",
            $of_order,
            " AND ($2 IS NULL OR payment_ref IS DISTINCT FROM $2) \
               AND (payment_ref IS NULL OR why IS DISTINCT FROM 'duplicate_payment') \
             ORDER BY 1"
        )
    };
}

/// A charge that was reported under the order's ref before there was such an order is of this order.
static LEDGER: Statement = Statement::deciding(
    ledger!(
        "coalesce(order_id = $1 OR order_ref = $3, false)",
        "order_id = $1"
    ),
    &[INT8OID, TEXTOID, TEXTOID],
);

/// The ledger of a ref that names no order.
static LEDGER_OF_UNKNOWN_REF: Statement = Statement::deciding(
    ledger!("coalesce(order_ref = $1, false)", "order_ref = $1"),
    &[TEXTOID, TEXTOID],
);

/// Waits for a transaction that inserts the same ref; a ref already there is 23505.
static INSERT: Statement = Statement::deciding(
    "INSERT INTO flashsale.payments (order_id, payment_ref, amount, currency, status, why, due_since, order_ref) \
     VALUES ($1, $2, $3, $4, CASE WHEN $5 IS NULL THEN 'paid' ELSE 'due' END, $5, \
             CASE WHEN $5 IS NOT NULL THEN clock_timestamp() END, $6) \
     RETURNING payment_id",
    &[INT8OID, TEXTOID, INT8OID, TEXTOID, TEXTOID, TEXTOID],
);

/// Locks the payment; 23505 if another payment has the ref.
static FILL_REF: Statement = Statement::deciding(
    "UPDATE flashsale.payments \
     SET payment_ref = $2, amount = coalesce(amount, $3), currency = coalesce(currency, $4) \
     WHERE payment_id = $1 AND payment_ref IS NULL RETURNING payment_id",
    &[INT8OID, TEXTOID, INT8OID, TEXTOID],
);

/// Updates a row that the same transaction inserted.
static MARK_PAID: Statement = Statement::deciding(
    "UPDATE flashsale.payments SET status = 'paid', why = NULL, due_since = NULL \
     WHERE payment_id = $1 RETURNING payment_id",
    &[INT8OID],
);

/// Locks the payment of an order that the caller holds.
static MARK_DUE: Statement = Statement::deciding(
    "UPDATE flashsale.payments SET status = 'due', why = 'order_refunded', due_since = clock_timestamp() \
     WHERE order_id = $1 AND status = 'paid' RETURNING payment_id",
    &[INT8OID],
);

/// Waits for the payment's lock.
static LOCK: Statement = Statement::deciding(
    "SELECT payment_id, order_id, status, why, refund_ref, \
            coalesce(order_ref, (SELECT o.order_id || '-' || o.ref_code FROM flashsale.orders o \
                                 WHERE o.order_id = p.order_id AND p.why IS DISTINCT FROM 'order_not_found')) \
     FROM flashsale.payments p WHERE payment_ref = $1 FOR NO KEY UPDATE OF p",
    &[TEXTOID],
);

/// Updates a row that the caller holds.
static MARK_REFUNDED: Statement = Statement::deciding(
    "UPDATE flashsale.payments \
     SET status = 'refunded', refunded_at = clock_timestamp(), refund_ref = $2 \
     WHERE payment_id = $1 RETURNING payment_id",
    &[INT8OID, TEXTOID],
);

/// Waits for a transaction that reports a charge for the same unknown order, and keeps others
/// waiting until this one ends.
pub fn lock_unknown_order(client: &SpiClient<'_>, paid_for: PaidFor<'_>) -> Result<(), Fault> {
    let (order_id, order_ref) = columns(paid_for);
    LOCK_UNKNOWN_ORDER
        .run(client, &[order_id.into(), order_ref.into()])
        .map(drop)
}

/// The columns `order_id` and `order_ref` of a payment; one of them is NULL.
fn columns(paid_for: PaidFor<'_>) -> (Option<i64>, Option<&str>) {
    match paid_for {
        PaidFor::Order(order_id) => (Some(order_id), None),
        PaidFor::UnknownRef(order_ref) => (None, Some(order_ref)),
    }
}

/// The recorded payments that decide about a charge: those of its order, and one with its ref.
/// Locks nothing.
pub fn ledger(
    client: &SpiClient<'_>,
    charge: &Charge<'_>,
    paid_for: PaidFor<'_>,
) -> Result<Ledger, Fault> {
    let payment_ref = charge.payment_ref.into();
    let rows = match paid_for {
        PaidFor::Order(id) => LEDGER.run(
            client,
            &[id.into(), payment_ref, charge.order.text().into()],
        ),
        PaidFor::UnknownRef(order_ref) => {
            LEDGER_OF_UNKNOWN_REF.run(client, &[order_ref.into(), payment_ref])
        }
    }?;
    let mut ledger = Ledger::default();
    for row in rows {
        let (same_order, same_ref, unnamed): (bool, bool, bool) =
            (cell(&row, 2)?, cell(&row, 3)?, cell(&row, 4)?);
        if same_ref && !same_order {
            ledger.ref_in_use = true;
            continue;
        }
        let slot = match (same_ref, unnamed) {
            (true, _) => &mut ledger.same_ref,
            (_, true) => &mut ledger.unnamed,
            (_, false) => &mut ledger.settled,
        };
        let found = read_entry(&row, charge)?;
        if slot.is_none_or(|known: Entry| known.bearing() <= found.bearing()) {
            *slot = Some(found);
        }
    }
    Ok(ledger)
}

fn read_entry(row: &SpiHeapTupleData<'_>, charge: &Charge<'_>) -> Result<Entry, Fault> {
    Ok(Entry {
        payment_id: cell(row, 1)?,
        standing: standing(&cell::<String>(row, 5)?, row.get(6)?)?,
        agrees: charge.agrees(row.get(7)?, row.get(8)?),
    })
}

fn standing(status: &str, why: Option<String>) -> Result<Standing, Fault> {
    Standing::parse(status, why.as_deref()).ok_or(Fault::Broken("a payment has no fate"))
}

/// Records a charge as paid or, with a reason, as due; returns the payment's id. 23505 if the ref
/// is already recorded.
pub fn insert(
    client: &SpiClient<'_>,
    charge: &Charge<'_>,
    paid_for: PaidFor<'_>,
    why: Option<Why>,
) -> Result<i64, Fault> {
    let (order_id, order_ref) = columns(paid_for);
    let arguments = [
        order_id.into(),
        charge.payment_ref.into(),
        charge.amount.into(),
        charge.currency.as_deref().into(),
        why.map(|why| why.reason().code()).into(),
        order_ref.into(),
    ];
    let row = INSERT
        .first(client, &arguments)?
        .ok_or(Fault::Broken("a payment was not inserted"))?;
    some(&row, 1)
}

/// Adds the charge's ref to a payment that was reported without one, and amount and currency if
/// they are missing. Locks the payment. 23505 if the ref is already recorded.
pub fn fill_ref(client: &SpiClient<'_>, payment_id: i64, charge: &Charge<'_>) -> Result<(), Fault> {
    let arguments = [
        payment_id.into(),
        charge.payment_ref.into(),
        charge.amount.into(),
        charge.currency.as_deref().into(),
    ];
    FILL_REF.write(client, &arguments, 1)
}

/// Changes a payment that this transaction recorded as due to paid.
pub fn mark_paid(client: &SpiClient<'_>, payment_id: i64) -> Result<(), Fault> {
    MARK_PAID.write(client, &[payment_id.into()], 1)
}

/// Changes the payment that paid a locked order to due, if there is one. Locks the payment.
pub fn mark_due(client: &SpiClient<'_>, order_id: i64) -> Result<(), Fault> {
    MARK_DUE.run(client, &[order_id.into()]).map(drop)
}

/// A payment, read under its lock.
pub struct Payment {
    pub payment_id: i64,
    pub order: PaymentOrder,
    pub standing: Standing,
    pub refund_ref: Option<String>,
}

/// Locks the payment with a ref, for which it waits; `None` if there is none.
pub fn lock(client: &SpiClient<'_>, payment_ref: &str) -> Result<Option<Payment>, Fault> {
    let row = LOCK.first(client, &[payment_ref.into()])?;
    row.map(|row| {
        Ok(Payment {
            payment_id: some(&row, 1)?,
            order: PaymentOrder {
                order_id: row.get(2)?,
                order_ref: row.get(6)?,
            },
            standing: standing(&some::<String>(&row, 3)?, row.get(4)?)?,
            refund_ref: row.get(5)?,
        })
    })
    .transpose()
}

/// Changes a locked payment to refunded.
pub fn mark_refunded(
    client: &SpiClient<'_>,
    payment_id: i64,
    refund_ref: Option<&str>,
) -> Result<(), Fault> {
    MARK_REFUNDED.write(client, &[payment_id.into(), refund_ref.into()], 1)
}
