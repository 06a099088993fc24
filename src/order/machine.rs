//! The state machine of an order (pure): what each move does in each status.

use crate::answer::Reason;

/// Where an order stands, as `flashsale.orders.status` names it.
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

    /// Why an order that holds no units any more cannot go on; `None` while it does.
    pub fn dead(self) -> Option<Reason> {
        match self {
            Self::Reserved | Self::Paying | Self::Confirmed => None,
            Self::Cancelled => Some(Reason::OrderCancelled),
            Self::Expired => Some(Reason::OrderExpired),
            Self::Refunded => Some(Reason::OrderRefunded),
        }
    }
}

/// What somebody wants of an order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Move {
    BeginPayment,
    Confirm,
    Cancel,
    Expire,
    Refund,
}

/// What a move does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// The order changes its status.
    To(Status),
    /// The order takes its units again if they are free.
    Reinstate,
    /// Done before: the same answer again, nothing changes.
    Repeat,
    /// Not from here.
    Refuse(Reason),
}

/// What a move does in a status: the whole machine.
pub fn step(status: Status, movement: Move) -> Step {
    use Status::*;
    match (movement, status) {
        (Move::BeginPayment, Reserved) => Step::To(Paying),
        (Move::BeginPayment, Paying) => Step::Repeat,
        (Move::BeginPayment, Confirmed) => Step::Refuse(Reason::AlreadyConfirmed),
        (Move::BeginPayment, Cancelled) => Step::Refuse(Reason::OrderCancelled),
        (Move::BeginPayment, Expired) => Step::Refuse(Reason::OrderExpired),
        (Move::BeginPayment, Refunded) => Step::Refuse(Reason::OrderRefunded),

        (Move::Confirm, Reserved | Paying) => Step::To(Confirmed),
        (Move::Confirm, Confirmed) => Step::Repeat,
        (Move::Confirm, Expired) => Step::Reinstate,
        (Move::Confirm, Cancelled) => Step::Refuse(Reason::OrderCancelled),
        (Move::Confirm, Refunded) => Step::Refuse(Reason::OrderRefunded),

        (Move::Cancel, Reserved | Paying) => Step::To(Cancelled),
        (Move::Cancel, Confirmed) => Step::Refuse(Reason::AlreadyConfirmed),
        (Move::Cancel, Cancelled | Expired | Refunded) => Step::Repeat,

        // The reconciler takes reserved orders alone; whoever came first has the order.
        (Move::Expire, Reserved) => Step::To(Expired),
        (Move::Expire, _) => Step::Repeat,

        (Move::Refund, Confirmed) => Step::To(Refunded),
        (Move::Refund, Refunded) => Step::Repeat,
        (Move::Refund, Reserved | Paying | Cancelled | Expired) => {
            Step::Refuse(Reason::OrderNotConfirmed)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use Status::*;

    fn holds_units(status: Status) -> bool {
        status.dead().is_none()
    }

    #[test]
    fn every_status_and_move() {
        use Step::{Reinstate, Repeat, To};
        let no = Step::Refuse;
        #[rustfmt::skip]
        let rows: [(Status, [Step; 5]); 6] = [
            //          begin_payment                 confirm                      cancel                        expire       refund
            (Reserved,  [To(Paying),                  To(Confirmed),               To(Cancelled),                To(Expired), no(Reason::OrderNotConfirmed)]),
            (Paying,    [Repeat,                      To(Confirmed),               To(Cancelled),                Repeat,      no(Reason::OrderNotConfirmed)]),
            (Confirmed, [no(Reason::AlreadyConfirmed), Repeat,                     no(Reason::AlreadyConfirmed), Repeat,      To(Refunded)]),
            (Cancelled, [no(Reason::OrderCancelled),  no(Reason::OrderCancelled),  Repeat,                       Repeat,      no(Reason::OrderNotConfirmed)]),
            (Expired,   [no(Reason::OrderExpired),    Reinstate,                   Repeat,                       Repeat,      no(Reason::OrderNotConfirmed)]),
            (Refunded,  [no(Reason::OrderRefunded),   no(Reason::OrderRefunded),   Repeat,                       Repeat,      Repeat]),
        ];
        let moves = [
            Move::BeginPayment,
            Move::Confirm,
            Move::Cancel,
            Move::Expire,
            Move::Refund,
        ];
        for (status, steps) in rows {
            for (movement, expected) in moves.into_iter().zip(steps) {
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
        // Whatever moves are made, an order gives its units back only from a status that
        // holds them, and gets them again only by being reinstated.
        let moves = [
            Move::BeginPayment,
            Move::Confirm,
            Move::Cancel,
            Move::Expire,
            Move::Refund,
        ];
        for status in Status::ALL {
            for movement in moves {
                if let Step::To(next) = step(status, movement) {
                    assert!(
                        holds_units(status),
                        "{movement:?} from {status:?} to {next:?}"
                    );
                }
            }
        }
    }

    #[test]
    fn names_survive_the_table() {
        for status in Status::ALL {
            assert_eq!(Status::parse(status.name()), Some(status));
        }
        assert_eq!(Status::parse("RESERVED"), None);
    }
}
