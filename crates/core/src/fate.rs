//! The fate of a reported charge: the one payment of its order, or due for refund.

use crate::argument::fits;
use crate::order::{ConfirmStep, Status, confirm_step};
use crate::reason::Reason;

/// Why a payment is due for refund, or was refunded.
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

    /// The reason that confirm_order answers. `payments` stores its code.
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

/// The status of a recorded payment, with the reason why it is due. A payment that is due can
/// only become refunded, and one that is refunded stays so.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    Paid,
    Due(Why),
    Refunded(Why),
}

impl Standing {
    /// The standing that a row's columns `status` and `why` describe.
    pub fn parse(status: &str, why: Option<&str>) -> Option<Self> {
        match (status, why) {
            ("paid", None) => Some(Self::Paid),
            ("due", Some(why)) => Why::parse(why).map(Self::Due),
            ("refunded", Some(why)) => Why::parse(why).map(Self::Refunded),
            _ => None,
        }
    }

    fn is_stray(self) -> bool {
        matches!(
            self,
            Self::Due(Why::OrderNotFound) | Self::Refunded(Why::OrderNotFound)
        )
    }
}

/// The columns of a row of `payments` that its CHECK compares.
#[derive(Clone, Copy, Debug, Default)]
pub struct Row<'a> {
    pub status: Option<&'a str>,
    pub why: Option<&'a str>,
    pub is_due: Option<bool>,
    pub is_refunded: Option<bool>,
    pub payment_ref: Option<&'a str>,
    pub refund_ref: Option<&'a str>,
    pub amount: Option<i64>,
}

impl Row<'_> {
    /// Whether the columns are consistent: a payment is paid; or due, with a reason and a time;
    /// or refunded, with a reason and both times.
    pub fn adds_up(&self) -> bool {
        let standing = self
            .status
            .and_then(|status| Standing::parse(status, self.why));
        let since = match standing {
            None => return false,
            Some(Standing::Paid) => (Some(false), Some(false)),
            Some(Standing::Due(_)) => (Some(true), Some(false)),
            Some(Standing::Refunded(_)) => (Some(true), Some(true)),
        };
        (self.is_due, self.is_refunded) == since
            && (self.refund_ref.is_none() || self.is_refunded == Some(true))
            && self.payment_ref.is_none_or(fits)
            && self.refund_ref.is_none_or(fits)
            && self.amount.is_none_or(|amount| amount >= 0)
    }
}

/// A recorded payment, compared with a charge that is reported now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Entry {
    pub payment_id: i64,
    pub standing: Standing,
    /// Whether it can be the same charge: its amount and currency agree with the report's.
    pub agrees: bool,
}

impl Entry {
    /// Orders an order's payments by how likely a report without a ref is about them: those that
    /// agree come last, and among them the one that pays the order, then one that is due.
    pub fn bearing(&self) -> (bool, u8) {
        let standing = match self.standing {
            Standing::Paid => 2,
            Standing::Due(_) => 1,
            Standing::Refunded(_) => 0,
        };
        (self.agrees, standing)
    }
}

/// The recorded payments that a reported charge is compared with.
#[derive(Clone, Copy, Debug, Default)]
pub struct Ledger {
    /// The payment of this order that has the same ref.
    pub same_ref: Option<Entry>,
    /// Whether another order has a payment with the same ref.
    pub ref_in_use: bool,
    /// The payment of this order that was reported without a ref.
    pub unnamed: Option<Entry>,
    /// A payment of this order with a ref that is not a duplicate: it paid the order, found it
    /// closed, or differed from its price.
    pub settled: Option<Entry>,
}

/// What is done with a reported charge.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fate {
    /// The charge is recorded already: the answer is the same as before.
    Repeat(Standing),
    /// The payment that was reported without a ref gets this ref; the answer is the same as before.
    Fill(Entry),
    /// The ref belongs to another order; nothing changes.
    RefInUse,
    /// The charge pays the order.
    Pay,
    /// The charge pays the order if its units can be taken again; else it is due as
    /// `order_expired`.
    Reinstate,
    /// The charge is recorded as due.
    Due(Why),
    /// The charge differs from the order's payment without a ref. An order can have one such
    /// payment at most, so this charge can be recorded only with its ref.
    NeedsRef,
}

/// Decides on a reported charge. `order` is the status of its order (`None`: there is no such
/// order), `named` whether the charge has a ref, `matches` whether it agrees with the order's price.
pub fn fate(order: Option<Status>, named: bool, matches: bool, ledger: &Ledger) -> Fate {
    if ledger.ref_in_use {
        return Fate::RefInUse;
    }
    if let Some(entry) = ledger.same_ref {
        return Fate::Repeat(entry.standing);
    }
    // A charge that was reported before the order existed is not about this order.
    let about = |entry: &Entry| order.is_none() || !entry.standing.is_stray();
    let same = |entry: &Entry| about(entry) && same_charge(entry, matches);
    match (named, ledger.unnamed) {
        (false, Some(entry)) if same(&entry) => return Fate::Repeat(entry.standing),
        (false, Some(_)) => return Fate::NeedsRef,
        (true, Some(entry)) if same(&entry) => return Fate::Fill(entry),
        _ => {}
    }
    match (named, ledger.settled) {
        (false, Some(entry)) if same(&entry) => Fate::Repeat(entry.standing),
        _ => new_charge(order, matches),
    }
}

/// Whether a reported charge and a known payment, at least one of them without a ref, can be the
/// same charge. A charge that differs from the price is not the payment that was accepted.
fn same_charge(known: &Entry, matches: bool) -> bool {
    known.agrees && (matches || known.standing != Standing::Paid)
}

fn new_charge(order: Option<Status>, matches: bool) -> Fate {
    let Some(status) = order else {
        return Fate::Due(Why::OrderNotFound);
    };
    match confirm_step(status) {
        ConfirmStep::Confirm | ConfirmStep::Reinstate if !matches => Fate::Due(Why::AmountMismatch),
        ConfirmStep::Confirm => Fate::Pay,
        ConfirmStep::Reinstate => Fate::Reinstate,
        ConfirmStep::Repeat => Fate::Due(Why::DuplicatePayment),
        ConfirmStep::Cancelled => Fate::Due(Why::OrderCancelled),
        ConfirmStep::Refunded => Fate::Due(Why::OrderRefunded),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::limits::MAX_TEXT_BYTES;
    use Status::*;

    fn entry(standing: Standing) -> Option<Entry> {
        Some(Entry {
            payment_id: 7,
            standing,
            agrees: true,
        })
    }

    fn differing(standing: Standing) -> Option<Entry> {
        entry(standing).map(|entry| Entry {
            agrees: false,
            ..entry
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

    const STANDINGS: [Standing; 3] = [
        Standing::Paid,
        Standing::Due(Why::OrderExpired),
        Standing::Due(Why::AmountMismatch),
    ];

    #[test]
    fn a_charge_reported_before_there_was_such_an_order_is_not_about_the_order() {
        let stray = entry(Standing::Due(Why::OrderNotFound));
        let unnamed = Ledger {
            unnamed: stray,
            ..Ledger::default()
        };
        assert_eq!(fate(None, true, true, &unnamed), Fate::Fill(stray.unwrap()));
        assert_eq!(
            fate(None, false, true, &unnamed),
            Fate::Repeat(stray.unwrap().standing)
        );
        assert_eq!(fate(Some(Reserved), true, true, &unnamed), Fate::Pay);
        assert_eq!(fate(Some(Reserved), false, true, &unnamed), Fate::NeedsRef);
        let settled = Ledger {
            settled: stray,
            ..Ledger::default()
        };
        assert_eq!(
            fate(None, false, true, &settled),
            Fate::Repeat(stray.unwrap().standing)
        );
        assert_eq!(fate(Some(Reserved), false, true, &settled), Fate::Pay);
    }

    #[test]
    fn the_first_ref_fills_the_payment_without_one_unless_the_amount_is_another() {
        for order in Status::ALL.map(Some).into_iter().chain([None]) {
            for (standing, matches) in STANDINGS
                .into_iter()
                .flat_map(|known| [(known, true), (known, false)])
            {
                let ledger = Ledger {
                    unnamed: entry(standing),
                    ..Ledger::default()
                };
                assert_eq!(
                    fate(order, true, matches, &ledger),
                    if standing == Standing::Paid && !matches {
                        new_charge(order, matches)
                    } else {
                        Fate::Fill(ledger.unnamed.unwrap())
                    }
                );
                let ledger = Ledger {
                    unnamed: differing(standing),
                    ..Ledger::default()
                };
                assert_eq!(
                    fate(order, true, matches, &ledger),
                    new_charge(order, matches)
                );
            }
        }
    }

    #[test]
    fn without_a_ref_at_most_one_payment_is_recorded() {
        for standing in STANDINGS {
            let ledger = Ledger {
                unnamed: entry(standing),
                ..Ledger::default()
            };
            assert_eq!(
                fate(Some(Expired), false, true, &ledger),
                Fate::Repeat(standing)
            );
            let ledger = Ledger {
                unnamed: differing(standing),
                ..Ledger::default()
            };
            assert_eq!(fate(Some(Expired), false, true, &ledger), Fate::NeedsRef);
        }
    }

    #[test]
    fn without_a_ref_it_is_the_charge_known_by_its_ref_unless_the_amount_is_another() {
        for standing in STANDINGS {
            let ledger = Ledger {
                settled: entry(standing),
                ..Ledger::default()
            };
            assert_eq!(
                fate(Some(Reserved), false, true, &ledger),
                Fate::Repeat(standing)
            );
            assert_eq!(fate(Some(Reserved), true, true, &ledger), Fate::Pay);
            let ledger = Ledger {
                settled: differing(standing),
                ..Ledger::default()
            };
            assert_eq!(fate(Some(Reserved), false, true, &ledger), Fate::Pay);
            assert_eq!(
                fate(Some(Confirmed), false, false, &ledger),
                Fate::Due(Why::DuplicatePayment)
            );
        }
    }

    #[test]
    fn a_report_without_a_ref_is_about_the_payment_that_matters_most() {
        let [paid, due] =
            [Standing::Paid, Standing::Due(Why::OrderExpired)].map(|known| entry(known).unwrap());
        let refunded = entry(Standing::Refunded(Why::OrderExpired)).unwrap();
        assert!(paid.bearing() > due.bearing() && due.bearing() > refunded.bearing());
        assert!(refunded.bearing() > differing(Standing::Paid).unwrap().bearing());
    }

    #[test]
    fn whys_survive_the_table() {
        for why in Why::ALL {
            assert_eq!(Why::parse(why.reason().code()), Some(why));
        }
        assert_eq!(Why::parse("busy"), None);
    }

    #[test]
    fn a_row_that_tells_two_stories_does_not_add_up() {
        let paid = Row {
            status: Some("paid"),
            is_due: Some(false),
            is_refunded: Some(false),
            payment_ref: Some("ch_1"),
            amount: Some(0),
            ..Row::default()
        };
        let due = Row {
            status: Some("due"),
            why: Some("order_expired"),
            is_due: Some(true),
            ..paid
        };
        let refunded = Row {
            status: Some("refunded"),
            is_refunded: Some(true),
            refund_ref: Some("re_1"),
            ..due
        };
        for row in [paid, due, refunded] {
            assert!(row.adds_up(), "{row:?}");
        }
        const LONG: [u8; MAX_TEXT_BYTES + 1] = [b'x'; MAX_TEXT_BYTES + 1];
        type Change = fn(&mut Row<'_>);
        let changes: [(Row<'_>, Change); 9] = [
            (paid, |row| row.status = None),
            (due, |row| row.why = Some("busy")),
            (paid, |row| row.is_due = Some(true)),
            (paid, |row| row.is_due = None),
            (due, |row| row.is_refunded = Some(true)),
            (due, |row| row.refund_ref = Some("re_1")),
            (refunded, |row| row.refund_ref = Some("")),
            (paid, |row| row.payment_ref = str::from_utf8(&LONG).ok()),
            (paid, |row| row.amount = Some(-1)),
        ];
        for (mut row, change) in changes {
            change(&mut row);
            assert!(!row.adds_up(), "{row:?}");
        }
    }
}
