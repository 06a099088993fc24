//! What a cancel does to an order.

use crate::order::{Move, Moved, Status, Step, step};
use crate::order_ref::RefCode;

/// A request to cancel an order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cancel<'a> {
    pub order_id: i64,
    /// The code that the order must have; `None` for a request by id.
    pub code: Option<RefCode>,
    pub reason: Option<&'a str>,
    /// The OID of the session user who cancels it.
    pub by: u32,
}

/// An order that was cancelled, now or before, or had expired or been refunded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cancelled {
    pub status: Status,
    /// The units that this cancel restored; 0 if the order was closed before.
    pub restored: i64,
}

/// Decides on a cancel of an order of `quantity` units.
pub fn cancel(status: Status, quantity: i64) -> Moved<Cancelled> {
    match step(status, Move::Cancel) {
        Step::To(status) => Moved::Done(Cancelled {
            status,
            restored: quantity,
        }),
        Step::Repeat => Moved::Done(Cancelled {
            status,
            restored: 0,
        }),
        Step::Refuse(reason) => Moved::Refused { status, reason },
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::reason::Reason;

    #[test]
    fn units_are_restored_by_the_cancel_that_closes_the_order() {
        for status in Status::ALL {
            let expected = match status {
                Status::Reserved | Status::Paying => Moved::Done(Cancelled {
                    status: Status::Cancelled,
                    restored: 3,
                }),
                Status::Confirmed => Moved::Refused {
                    status,
                    reason: Reason::AlreadyConfirmed,
                },
                Status::Cancelled | Status::Expired | Status::Refunded => Moved::Done(Cancelled {
                    status,
                    restored: 0,
                }),
            };
            assert_eq!(cancel(status, 3), expected, "{status:?}");
        }
    }
}
