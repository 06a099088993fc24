//! The outcome of a purchase, in a form that can lie in shared memory.

use crate::fit::PriorOrder;
use crate::item::Item;
use crate::limits::MAX_LISTED_ORDERS;
use crate::order_ref::OrderRef;
use crate::reason::Reason;
use crate::time::Micros;

/// The outcome of a purchase. It owns no heap memory, so one process can pass it to another
/// through shared memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    Reserved {
        order: PriorOrder,
        replayed: bool,
    },
    /// The order of the same key holds no units any more, or was for another quantity.
    DeadReplay {
        order_ref: OrderRef,
        reason: Reason,
    },
    /// The item is not on sale, or has too few units left.
    Unavailable {
        reason: Reason,
        inventory: i64,
        starts_at: Option<Micros>,
        ends_at: Option<Micros>,
    },
    LimitReached {
        max_per_user: Option<i64>,
        orders: OrderIds,
    },
    NotFound,
    Busy,
    Conflict,
}

/// Up to `MAX_LISTED_ORDERS` order ids.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OrderIds {
    ids: [i64; MAX_LISTED_ORDERS],
    len: usize,
}

impl OrderIds {
    pub fn as_slice(&self) -> &[i64] {
        &self.ids[..self.len]
    }
}

impl FromIterator<i64> for OrderIds {
    fn from_iter<I: IntoIterator<Item = i64>>(found: I) -> Self {
        let mut orders = Self {
            ids: [0; MAX_LISTED_ORDERS],
            len: 0,
        };
        for order_id in found.into_iter().take(MAX_LISTED_ORDERS) {
            orders.ids[orders.len] = order_id;
            orders.len += 1;
        }
        orders
    }
}

impl Outcome {
    pub fn unavailable(reason: Reason, item: &Item) -> Self {
        Self::Unavailable {
            reason,
            inventory: item.inventory,
            starts_at: item.starts_at,
            ends_at: item.ends_at,
        }
    }

    pub fn sold_out() -> Self {
        Self::unavailable(Reason::OutOfStock, &Item::default())
    }

    /// Whether it is the answer of an earlier call, given again.
    pub fn is_replay(&self) -> bool {
        matches!(self, Self::Reserved { replayed: true, .. })
    }

    /// The reason for a refusal; `None` if units are reserved.
    pub fn reason(&self) -> Option<Reason> {
        match *self {
            Self::Reserved { .. } => None,
            Self::DeadReplay { reason, .. } | Self::Unavailable { reason, .. } => Some(reason),
            Self::LimitReached { .. } => Some(Reason::UserLimitReached),
            Self::NotFound => Some(Reason::ItemNotFound),
            Self::Busy => Some(Reason::Busy),
            Self::Conflict => Some(Reason::Conflict),
        }
    }
}
