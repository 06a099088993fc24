//! What a user wants to buy, and how.

use serde::Serialize;

/// How a purchase obtains the lock on the item's row.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Strategy {
    /// Answers `busy` at once if another transaction holds it.
    Nowait,
    /// Reads without a lock, and tries again if the item has changed meanwhile.
    Optimistic,
    /// Waits for it.
    Atomic,
    /// The seller serves all buyers who wait for an item in one transaction. Not in a transaction of
    /// the caller's; needs the extension's library preloaded.
    Grouped,
}

impl Strategy {
    /// The name, as the extension takes it.
    pub fn name(self) -> &'static str {
        match self {
            Strategy::Nowait => "nowait",
            Strategy::Optimistic => "optimistic",
            Strategy::Atomic => "atomic",
            Strategy::Grouped => "grouped",
        }
    }
}

/// Units of one item for one user.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Purchase {
    pub(crate) item_id: i64,
    pub(crate) user_id: Box<str>,
    #[serde(skip_serializing_if = "is_one")]
    pub(crate) quantity: i64,
    #[serde(rename = "idempotency_key", skip_serializing_if = "Option::is_none")]
    pub(crate) key: Option<Box<str>>,
    #[serde(skip)]
    pub(crate) strategy: Option<Strategy>,
}

fn is_one(quantity: &i64) -> bool {
    *quantity == 1
}

impl Purchase {
    /// One unit, without a key, by the strategy of the session.
    pub fn new(item_id: i64, user_id: impl Into<Box<str>>) -> Self {
        Self {
            item_id,
            user_id: user_id.into(),
            quantity: 1,
            key: None,
            strategy: None,
        }
    }

    /// This many units.
    pub fn quantity(mut self, quantity: i64) -> Self {
        self.quantity = quantity;
        self
    }

    /// Purchases of the same user, item and key are one purchase. Give every purchase a key, such as
    /// the basket's: only with one can a purchase be repeated whose answer was lost.
    pub fn key(mut self, key: impl Into<Box<str>>) -> Self {
        self.key = Some(key.into());
        self
    }

    /// Another strategy than the session's. A batch, and a [`Gatherer`](crate::Gatherer), have one
    /// for all their purchases instead.
    pub fn strategy(mut self, strategy: Strategy) -> Self {
        self.strategy = Some(strategy);
        self
    }

    /// Whether it can be repeated if nobody knows what became of it.
    pub fn is_repeatable(&self) -> bool {
        self.key.is_some()
    }
}
