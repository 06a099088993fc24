//! The fate of a reported charge (pure): the one payment of its order, or due for refund.

use crate::answer::Reason;
use crate::order::machine::{Move, Status, Step, step};

/// Why a payment is due, or was refunded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Why {
    OrderNotFound,
    OrderExpired,
    OrderCancelled,
    OrderRefunded,
    DuplicatePayment,
    AmountMismatch,
}

impl Why {
    pub const ALL: [Self; 6] = [
        Self::OrderNotFound,
        Self::OrderExpired,
        Self::OrderCancelled,
        Self::OrderRefunded,
        Self::DuplicatePayment,
        Self::AmountMismatch,
    ];

    /// The reason a confirm answers; its code is what the table stores.
    pub fn reason(self) -> Reason {
        match self {
            Self::OrderNotFound => Reason::OrderNotFound,
            Self::OrderExpired => Reason::OrderExpired,
            Self::OrderCancelled => Reason::OrderCancelled,
            Self::OrderRefunded => Reason::OrderRefunded,
            Self::DuplicatePayment => Reason::DuplicatePayment,
            Self::AmountMismatch => Reason::AmountMismatch,
        }
    }

    pub fn parse(code: &str) -> Option<Self> {
        Self::ALL
            .into_iter()
            .find(|why| why.reason().code() == code)
    }
}

/// How a recorded payment stands. Due is final but for becoming refunded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    Paid,
    Due(Why),
    Refunded(Why),
}

impl Standing {
    /// Which of an order's payments a report without a ref is about: the one that pays
    /// it, else one that still needs a refund.
    pub fn weight(self) -> u8 {
        match self {
            Self::Paid => 2,
            Self::Due(_) => 1,
            Self::Refunded(_) => 0,
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Entry {
    pub payment_id: i64,
    pub standing: Standing,
}

/// What is recorded that bears on a charge.
#[derive(Clone, Copy, Debug, Default)]
pub struct Ledger {
    /// The same ref, for the same order.
    pub same_ref: Option<Entry>,
    /// The same ref, for another order.
    pub ref_in_use: bool,
    /// The order's payment that was reported without a ref.
    pub unnamed: Option<Entry>,
    /// The order's payment, with a ref, that paid it, met it closed or differed in price.
    pub settled: Option<Entry>,
}

/// What is to be done with a charge.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fate {
    /// Known already: answer as before.
    Repeat(Standing),
    /// The payment reported without a ref gets its ref, and answers as before.
    Fill(Entry),
    /// Belongs to another order; nothing changes.
    RefInUse,
    /// Pays the order.
    Pay,
    /// Pays the order if its units can be taken again, else due as order_expired.
    Reinstate,
    /// Recorded as due.
    Due(Why),
}

/// Decides on a charge for an order in `order` (`None`: unknown), reported with a ref
/// (`named`) or without, at the order's price (`matches`) or not.
pub fn fate(order: Option<Status>, named: bool, matches: bool, ledger: &Ledger) -> Fate {
    if ledger.ref_in_use {
        return Fate::RefInUse;
    }
    if let Some(entry) = ledger.same_ref {
        return Fate::Repeat(entry.standing);
    }
    match (named, ledger.unnamed) {
        (false, Some(entry)) => return Fate::Repeat(entry.standing),
        (true, Some(entry)) if same_charge(entry.standing, matches) => return Fate::Fill(entry),
        _ => {}
    }
    if let (false, Some(entry)) = (named, ledger.settled) {
        return Fate::Repeat(entry.standing);
    }
    new_charge(order, matches)
}

/// Whether a first ref can belong to the charge that was reported without one.
fn same_charge(unnamed: Standing, matches: bool) -> bool {
    match unnamed {
        Standing::Paid => matches,
        Standing::Due(Why::AmountMismatch) => !matches,
        Standing::Due(_) => true,
        // Refunds are reported by ref, so this one never had a chance to be.
        Standing::Refunded(_) => false,
    }
}

fn new_charge(order: Option<Status>, matches: bool) -> Fate {
    let Some(status) = order else {
        return Fate::Due(Why::OrderNotFound);
    };
    match step(status, Move::Confirm) {
        Step::To(_) | Step::Reinstate if !matches => Fate::Due(Why::AmountMismatch),
        Step::To(_) => Fate::Pay,
        Step::Reinstate => Fate::Reinstate,
        Step::Repeat => Fate::Due(Why::DuplicatePayment),
        Step::Refuse(Reason::OrderCancelled) => Fate::Due(Why::OrderCancelled),
        Step::Refuse(_) => Fate::Due(Why::OrderRefunded),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use Status::*;

    fn entry(standing: Standing) -> Option<Entry> {
        Some(Entry {
            payment_id: 7,
            standing,
        })
    }

    #[test]
    fn a_new_charge_by_status() {
        let table = [
            (
                None,
                Fate::Due(Why::OrderNotFound),
                Fate::Due(Why::OrderNotFound),
            ),
            (Some(Reserved), Fate::Pay, Fate::Due(Why::AmountMismatch)),
            (Some(Paying), Fate::Pay, Fate::Due(Why::AmountMismatch)),
            (
                Some(Confirmed),
                Fate::Due(Why::DuplicatePayment),
                Fate::Due(Why::DuplicatePayment),
            ),
            (
                Some(Cancelled),
                Fate::Due(Why::OrderCancelled),
                Fate::Due(Why::OrderCancelled),
            ),
            (
                Some(Expired),
                Fate::Reinstate,
                Fate::Due(Why::AmountMismatch),
            ),
            (
                Some(Refunded),
                Fate::Due(Why::OrderRefunded),
                Fate::Due(Why::OrderRefunded),
            ),
        ];
        for (order, at_price, at_another) in table {
            for named in [true, false] {
                assert_eq!(
                    fate(order, named, true, &Ledger::default()),
                    at_price,
                    "{order:?}"
                );
                assert_eq!(
                    fate(order, named, false, &Ledger::default()),
                    at_another,
                    "{order:?}"
                );
            }
        }
    }

    #[test]
    fn a_known_ref_is_always_a_repeat_and_never_reinstates() {
        for order in Status::ALL.map(Some).into_iter().chain([None]) {
            for standing in [
                Standing::Paid,
                Standing::Due(Why::OrderExpired),
                Standing::Refunded(Why::OrderExpired),
            ] {
                for matches in [true, false] {
                    let ledger = Ledger {
                        same_ref: entry(standing),
                        ..Ledger::default()
                    };
                    assert_eq!(fate(order, true, matches, &ledger), Fate::Repeat(standing));
                }
            }
        }
    }

    #[test]
    fn a_ref_of_another_order_changes_nothing_whatever_else_is_known() {
        for order in Status::ALL.map(Some).into_iter().chain([None]) {
            let ledger = Ledger {
                ref_in_use: true,
                unnamed: entry(Standing::Paid),
                ..Ledger::default()
            };
            assert_eq!(fate(order, true, true, &ledger), Fate::RefInUse);
        }
    }

    #[test]
    fn the_first_ref_fills_the_payment_without_one() {
        let paid = Ledger {
            unnamed: entry(Standing::Paid),
            ..Ledger::default()
        };
        assert_eq!(
            fate(Some(Confirmed), true, true, &paid),
            Fate::Fill(paid.unnamed.unwrap())
        );
        assert_eq!(
            fate(Some(Confirmed), true, false, &paid),
            Fate::Due(Why::DuplicatePayment)
        );
        let due = Ledger {
            unnamed: entry(Standing::Due(Why::OrderExpired)),
            ..Ledger::default()
        };
        for matches in [true, false] {
            assert_eq!(
                fate(Some(Expired), true, matches, &due),
                Fate::Fill(due.unnamed.unwrap())
            );
        }
    }

    #[test]
    fn a_mismatch_without_a_ref_is_filled_by_a_mismatch_and_not_by_the_right_amount() {
        let ledger = Ledger {
            unnamed: entry(Standing::Due(Why::AmountMismatch)),
            ..Ledger::default()
        };
        assert_eq!(
            fate(Some(Reserved), true, false, &ledger),
            Fate::Fill(ledger.unnamed.unwrap())
        );
        assert_eq!(fate(Some(Reserved), true, true, &ledger), Fate::Pay);
    }

    #[test]
    fn without_a_ref_at_most_one_payment_is_recorded() {
        for standing in [
            Standing::Paid,
            Standing::Due(Why::OrderExpired),
            Standing::Due(Why::AmountMismatch),
        ] {
            let unnamed = Ledger {
                unnamed: entry(standing),
                ..Ledger::default()
            };
            assert_eq!(
                fate(Some(Expired), false, true, &unnamed),
                Fate::Repeat(standing)
            );
        }
        let settled = Ledger {
            settled: entry(Standing::Paid),
            ..Ledger::default()
        };
        assert_eq!(
            fate(Some(Confirmed), false, true, &settled),
            Fate::Repeat(Standing::Paid)
        );
    }

    #[test]
    fn whys_survive_the_table() {
        for why in Why::ALL {
            assert_eq!(Why::parse(why.reason().code()), Some(why));
        }
        assert_eq!(Why::parse("busy"), None);
    }
}
