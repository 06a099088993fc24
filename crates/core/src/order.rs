//! The state machine of an order: what each move does in each status.

use crate::reason::Reason;
use crate::time::Micros;

/// The status of an order, as in `flashsale.orders.status`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Status {
    Reserved,
    Paying,
    Confirmed,
    Cancelled,
    Expired,
    Refunded,
}

impl Status {
    pub const ALL: [Self; 6] = [
        Self::Reserved,
        Self::Paying,
        Self::Confirmed,
        Self::Cancelled,
        Self::Expired,
        Self::Refunded,
    ];

    pub fn name(self) -> &'static str {
        match self {
            Self::Reserved => "reserved",
            Self::Paying => "paying",
            Self::Confirmed => "confirmed",
            Self::Cancelled => "cancelled",
            Self::Expired => "expired",
            Self::Refunded => "refunded",
        }
    }

    pub fn parse(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|status| status.name() == name)
    }

    /// The reason that calls on an order in this status are refused with, if it holds no units
    /// any more; `None` while it holds units.
    pub fn dead(self) -> Option<Reason> {
        match self {
            Self::Reserved | Self::Paying | Self::Confirmed => None,
            Self::Cancelled => Some(Reason::OrderCancelled),
            Self::Expired => Some(Reason::OrderExpired),
            Self::Refunded => Some(Reason::OrderRefunded),
        }
    }

    /// How many units an order of this quantity and status holds.
    pub fn units_held(self, quantity: i64) -> i64 {
        match self.dead() {
            None => quantity,
            Some(_) => 0,
        }
    }
}

/// The status of an order that has given back its units.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Closed {
    Cancelled,
    Expired,
    Refunded,
}

impl Closed {
    pub fn status(self) -> Status {
        match self {
            Self::Cancelled => Status::Cancelled,
            Self::Expired => Status::Expired,
            Self::Refunded => Status::Refunded,
        }
    }

    pub fn name(self) -> &'static str {
        self.status().name()
    }
}

/// Whether an order's columns are consistent: the status is known, the quantity is positive, and
/// the units held are those of the status.
pub fn units_add_up(status: &str, quantity: i64, units_held: i64) -> bool {
    Status::parse(status)
        .is_some_and(|status| quantity > 0 && units_held == status.units_held(quantity))
}

/// A change of an order's status, other than to confirm it (see [`confirm_step`]).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Move {
    BeginPayment,
    Cancel,
    Expire,
    Refund,
}

/// What a move does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// The order gets this status.
    To(Status),
    /// The move was made before: nothing changes, and the answer is the same.
    Repeat,
    /// The move is not allowed in this status.
    Refuse(Reason),
}

/// What a move does in a status. Together with [`confirm_step`] it is the whole state machine.
pub fn step(status: Status, movement: Move) -> Step {
    use Status::*;
    match (movement, status) {
        (Move::BeginPayment, Reserved) => Step::To(Paying),
        (Move::BeginPayment, Paying) => Step::Repeat,
        (Move::BeginPayment, Confirmed) => Step::Refuse(Reason::AlreadyConfirmed),
        (Move::BeginPayment, Cancelled) => Step::Refuse(Reason::OrderCancelled),
        (Move::BeginPayment, Expired) => Step::Refuse(Reason::OrderExpired),
        (Move::BeginPayment, Refunded) => Step::Refuse(Reason::OrderRefunded),

        (Move::Cancel, Reserved | Paying) => Step::To(Cancelled),
        (Move::Cancel, Confirmed) => Step::Refuse(Reason::AlreadyConfirmed),
        (Move::Cancel, Cancelled | Expired | Refunded) => Step::Repeat,

        // The reconciler expires only reserved orders. An order that another move has changed
        // meanwhile stays as it is.
        (Move::Expire, Reserved) => Step::To(Expired),
        (Move::Expire, _) => Step::Repeat,

        (Move::Refund, Confirmed) => Step::To(Refunded),
        (Move::Refund, Refunded) => Step::Repeat,
        (Move::Refund, Reserved | Paying | Cancelled | Expired) => {
            Step::Refuse(Reason::OrderNotConfirmed)
        }
    }
}

/// What a confirm does to an order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ConfirmStep {
    /// The order becomes confirmed.
    Confirm,
    /// The order takes its units again if they are free, and becomes confirmed.
    Reinstate,
    /// The order is confirmed already, and stays so.
    Repeat,
    /// The order was cancelled, and stays so.
    Cancelled,
    /// The order was refunded, and stays so.
    Refunded,
}

/// What a confirm does in a status.
pub fn confirm_step(status: Status) -> ConfirmStep {
    match status {
        Status::Reserved | Status::Paying => ConfirmStep::Confirm,
        Status::Expired => ConfirmStep::Reinstate,
        Status::Confirmed => ConfirmStep::Repeat,
        Status::Cancelled => ConfirmStep::Cancelled,
        Status::Refunded => ConfirmStep::Refunded,
    }
}

/// The outcome of a move of an order. If `T` owns no heap memory, one process can pass it to
/// another through shared memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Moved<T> {
    /// The order has the status to which the move leads, because of this call or an earlier one.
    Done(T),
    /// The move is not allowed in this status.
    Refused { status: Status, reason: Reason },
    /// There is no such order.
    NotFound,
    /// Another transaction holds the order, or an item that the move needs.
    Busy,
}

/// An order whose payment has begun.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Begun {
    /// When the order appears in `payment_checks`.
    pub payment_deadline: Micros,
}

/// A refund of an order. The units are 0 if it was refunded before.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Refunded {
    /// Units that are back on sale.
    pub restored: i64,
    /// Units that were removed from the stock.
    pub written_off: i64,
}

/// The outcome of expiring stale orders.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Expired {
    pub orders: i64,
    /// Units that are back on sale.
    pub units: i64,
    /// Stale orders that were skipped, because another transaction holds them or their item, or
    /// because they do not expire.
    pub skipped: i64,
    /// Whether more stale orders may remain, because the limit on orders was reached.
    pub more: bool,
}

/// A run of `reconcile_stale_reservations`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ExpiryRun {
    pub expired: Expired,
    /// Orders in paying that are past their deadline.
    pub payment_checks: i64,
}

#[cfg(test)]
mod tests {
    use super::*;
    use Status::*;

    const MOVES: [Move; 4] = [Move::BeginPayment, Move::Cancel, Move::Expire, Move::Refund];

    fn holds_units(status: Status) -> bool {
        status.units_held(1) == 1
    }

    #[test]
    fn every_status_and_move() {
        use Step::{Repeat, To};
        let no = Step::Refuse;
        #[rustfmt::skip]
        let rows: [(Status, ConfirmStep, [Step; 4]); 6] = [
            //          confirm                  begin_payment                      cancel                        expire       refund
            (Reserved,  ConfirmStep::Confirm,   [To(Paying),                       To(Cancelled),                To(Expired), no(Reason::OrderNotConfirmed)]),
            (Paying,    ConfirmStep::Confirm,   [Repeat,                           To(Cancelled),                Repeat,      no(Reason::OrderNotConfirmed)]),
            (Confirmed, ConfirmStep::Repeat,    [no(Reason::AlreadyConfirmed),     no(Reason::AlreadyConfirmed), Repeat,      To(Refunded)]),
            (Cancelled, ConfirmStep::Cancelled, [no(Reason::OrderCancelled),       Repeat,                       Repeat,      no(Reason::OrderNotConfirmed)]),
            (Expired,   ConfirmStep::Reinstate, [no(Reason::OrderExpired),         Repeat,                       Repeat,      no(Reason::OrderNotConfirmed)]),
            (Refunded,  ConfirmStep::Refunded,  [no(Reason::OrderRefunded),        Repeat,                       Repeat,      Repeat]),
        ];
        for (status, confirming, steps) in rows {
            assert_eq!(confirm_step(status), confirming, "{status:?}");
            for (movement, expected) in MOVES.into_iter().zip(steps) {
                assert_eq!(
                    step(status, movement),
                    expected,
                    "{movement:?} from {status:?}"
                );
            }
        }
    }

    #[test]
    fn units_come_back_once_at_most() {
        // An order gives its units back only from a status that holds them, and gets them again
        // only when it is reinstated.
        for status in Status::ALL {
            for movement in MOVES {
                if let Step::To(next) = step(status, movement) {
                    assert!(
                        holds_units(status),
                        "{movement:?} from {status:?} to {next:?}"
                    );
                }
            }
            let confirms = confirm_step(status) == ConfirmStep::Confirm;
            assert!(holds_units(status) || !confirms, "confirm from {status:?}");
        }
    }

    #[test]
    fn names_survive_the_table() {
        for status in Status::ALL {
            assert_eq!(Status::parse(status.name()), Some(status));
        }
        assert_eq!(Status::parse("RESERVED"), None);
    }

    #[test]
    fn units_are_held_in_full_or_not_at_all() {
        for status in Status::ALL {
            let held = status.units_held(3);
            assert!(units_add_up(status.name(), 3, held));
            assert!(!units_add_up(status.name(), 3, 3 - held));
        }
        assert!(!units_add_up("lost", 3, 3) && !units_add_up("reserved", 0, 0));
    }
}
