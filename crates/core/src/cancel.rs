//! What a cancel does to an order.

use crate::order::{Move, Status, Step, step};
use crate::reason::Reason;

/// A wish to give up a reservation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cancel<'a> {
    pub order_id: i64,
    pub reason: Option<&'a str>,
    /// The OID of the session user who wishes it.
    pub by: u32,
}

/// What became of it. It owns no memory, so that one process can leave it for another.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cancelled {
    /// Closed, now or before; its units were restored now, or none.
    Closed {
        status: Status,
        restored: i64,
    },
    Refused {
        status: Status,
        reason: Reason,
    },
    NotFound,
    Busy,
}

/// Decides on an order of so many units; restored are its units if it is closed by this, else 0.
pub fn cancel(status: Status, quantity: i64) -> Cancelled {
    match step(status, Move::Cancel) {
        Step::To(status) => Cancelled::Closed {
            status,
            restored: quantity,
        },
        Step::Repeat => Cancelled::Closed {
            status,
            restored: 0,
        },
        Step::Refuse(reason) => Cancelled::Refused { status, reason },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn units_are_restored_by_the_cancel_that_closes_the_order() {
        for status in Status::ALL {
            let expected = match status {
                Status::Reserved | Status::Paying => Cancelled::Closed {
                    status: Status::Cancelled,
                    restored: 3,
                },
                Status::Confirmed => Cancelled::Refused {
                    status,
                    reason: Reason::AlreadyConfirmed,
                },
                Status::Cancelled | Status::Expired | Status::Refunded => Cancelled::Closed {
                    status,
                    restored: 0,
                },
            };
            assert_eq!(cancel(status, 3), expected, "{status:?}");
        }
    }
}
