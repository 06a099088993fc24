//! An item, and whether it is on sale.

use crate::argument::{Invalid, value_of_stock};
use crate::limits::MAX_NUMBER;
use crate::reason::Reason;
use crate::time::Micros;

/// An ISO 4217 code in capitals.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Currency([u8; 3]);

impl Currency {
    /// `None` unless the code is three capital letters.
    pub fn parse(code: &str) -> Option<Self> {
        let letters: [u8; 3] = code.as_bytes().try_into().ok()?;
        letters
            .iter()
            .all(u8::is_ascii_uppercase)
            .then_some(Self(letters))
    }

    pub fn code(&self) -> &str {
        std::str::from_utf8(&self.0).expect("capitals are UTF-8")
    }
}

/// An item's state, read under its row lock or by a plain SELECT.
#[derive(Clone, Copy, Debug, Default)]
pub struct Item {
    pub item_id: i64,
    pub inventory: i64,
    pub version: i64,
    pub paused: bool,
    pub max_per_user: Option<i64>,
    pub starts_at: Option<Micros>,
    pub ends_at: Option<Micros>,
    pub unit_price: Option<i64>,
    pub currency: Option<Currency>,
    pub reservation_ttl: Option<Micros>,
}

impl Item {
    /// Why no user can buy the item at `now`; `None` while it is on sale.
    pub fn not_on_sale(&self, now: Micros) -> Option<Reason> {
        match self.inventory {
            0 => Some(Reason::OutOfStock),
            _ => self.not_open(now),
        }
    }

    /// Why no user could buy the item at `now`, however many units were free; `None` while it is
    /// neither paused nor outside its window.
    pub fn not_open(&self, now: Micros) -> Option<Reason> {
        if self.starts_at.is_some_and(|starts_at| now < starts_at) {
            Some(Reason::SaleNotStarted)
        } else if self.ends_at.is_some_and(|ends_at| now >= ends_at) {
            Some(Reason::SaleEnded)
        } else if self.paused {
            Some(Reason::SalePaused)
        } else {
            None
        }
    }
}

/// Whether `inventory` is neither negative nor greater than `stock`.
pub fn stock_adds_up(inventory: i64, stock: i64) -> bool {
    (0..=stock).contains(&inventory)
}

/// The outcome of adding units to an item's stock, or removing free ones.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Restocked {
    Done {
        stock: i64,
        inventory: i64,
        /// An earlier call with the same key did it, and got this answer.
        replayed: bool,
    },
    /// An earlier call with the same key moved another number of units.
    KeyReused,
    /// Fewer units are free than were to be removed.
    NotEnoughFree { inventory: i64 },
    /// There is no such item.
    NotFound,
    /// Another transaction holds the item.
    Busy,
}

/// An item's units, and the price of one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stock {
    pub inventory: i64,
    pub stock: i64,
    pub unit_price: Option<i64>,
}

/// A movement that was made with a key: its units, and the item's units after it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Movement {
    pub delta: i64,
    pub stock: i64,
    pub inventory: i64,
}

impl Movement {
    /// What a repeat of the call that made it is answered.
    pub fn again(self, delta: i64) -> Restocked {
        match delta == self.delta {
            true => Restocked::Done {
                stock: self.stock,
                inventory: self.inventory,
                replayed: true,
            },
            false => Restocked::KeyReused,
        }
    }
}

/// Decides on adding `delta` units, or, if it is negative, removing them. Raises 22003 if the
/// stock, or the price of the whole stock, would exceed [`MAX_NUMBER`].
pub fn restock(before: Stock, delta: i64) -> Result<Restocked, Invalid> {
    let inventory = before.inventory.saturating_add(delta);
    if inventory < 0 {
        return Ok(Restocked::NotEnoughFree {
            inventory: before.inventory,
        });
    }
    let stock = before.stock.saturating_add(delta);
    if stock > MAX_NUMBER {
        let rule = format!("the stock of {} would pass {MAX_NUMBER}", before.stock);
        return Err(Invalid::out_of_range("delta", delta, rule));
    }
    value_of_stock("delta", delta, before.unit_price, stock)?;
    Ok(Restocked::Done {
        stock,
        inventory,
        replayed: false,
    })
}

/// The outcome of pausing or resuming an item.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Paused {
    Done {
        paused: bool,
    },
    /// There is no such item.
    NotFound,
    /// Another transaction holds the item.
    Busy,
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Micros = 1_000;

    #[test]
    fn the_window_includes_its_start_and_not_its_end() {
        let open = Item {
            inventory: 1,
            starts_at: Some(NOW),
            ends_at: Some(NOW + 1),
            ..Item::default()
        };
        assert_eq!(open.not_on_sale(NOW), None);
        assert_eq!(open.not_on_sale(NOW - 1), Some(Reason::SaleNotStarted));
        assert_eq!(open.not_on_sale(NOW + 1), Some(Reason::SaleEnded));
    }

    #[test]
    fn inventory_is_within_the_stock() {
        assert!(stock_adds_up(0, 0) && stock_adds_up(0, 5) && stock_adds_up(5, 5));
        assert!(!stock_adds_up(-1, 5) && !stock_adds_up(6, 5) && !stock_adds_up(0, -1));
    }

    #[test]
    fn an_item_loses_no_more_units_than_are_free_and_gains_no_more_than_a_number_holds() {
        let before = Stock {
            inventory: 3,
            stock: 5,
            unit_price: None,
        };
        let done = |stock, inventory| {
            Ok(Restocked::Done {
                stock,
                inventory,
                replayed: false,
            })
        };
        let too_few = Ok(Restocked::NotEnoughFree { inventory: 3 });
        assert_eq!(restock(before, 2), done(7, 5));
        assert_eq!(restock(before, -3), done(2, 0));
        assert_eq!(restock(before, -4), too_few);
        assert_eq!(restock(before, i64::MIN), too_few);
        assert_eq!(
            restock(before, MAX_NUMBER - 5),
            done(MAX_NUMBER, MAX_NUMBER - 2)
        );
        assert!(restock(before, MAX_NUMBER - 4).is_err());
        assert!(restock(before, i64::MAX).is_err());
        let dear = Stock {
            unit_price: Some(MAX_NUMBER / 6),
            ..before
        };
        assert_eq!(restock(dear, 1), done(6, 4));
        assert!(restock(dear, 2).is_err());
    }

    #[test]
    fn a_repeated_movement_is_answered_as_it_was_and_another_one_is_refused() {
        let movement = Movement {
            delta: -3,
            stock: 7,
            inventory: 4,
        };
        let done = Restocked::Done {
            stock: 7,
            inventory: 4,
            replayed: true,
        };
        assert_eq!(movement.again(-3), done);
        assert_eq!(movement.again(3), Restocked::KeyReused);
    }

    #[test]
    fn a_currency_is_three_capitals() {
        assert_eq!(Currency::parse("EUR").unwrap().code(), "EUR");
        for bad in ["", "EU", "EURO", "eur", "E1R", "Ä"] {
            assert_eq!(Currency::parse(bad), None, "{bad}");
        }
    }
}
