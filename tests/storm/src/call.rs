//! One call of a buyer function, as data: it can be tried again, and sent to any connection.

use serde_json::Value;
use tokio_postgres::types::{ToSql, Type};

#[derive(Clone, Debug)]
pub enum Call {
    Purchase {
        item_id: i64,
        user_id: String,
        quantity: i64,
        key: Option<String>,
    },
    BeginPayment {
        order_id: i64,
    },
    Confirm {
        order_id: i64,
        payment_ref: Option<String>,
    },
    Cancel {
        order_id: i64,
    },
    /// Many purchases at once, as purchase_batch takes them.
    Batch {
        requests: Value,
    },
    /// One unit from a function that is not ours: `$1` is the item, `$2` the user.
    Peer {
        sql: &'static str,
        item_id: i64,
        user_id: String,
    },
}

pub(crate) type Parameter<'a> = (&'a (dyn ToSql + Sync), Type);

impl Call {
    /// One unit for this user, no key.
    pub fn buy(item_id: i64, user_id: impl Into<String>) -> Self {
        Call::Purchase {
            item_id,
            user_id: user_id.into(),
            quantity: 1,
            key: None,
        }
    }

    /// One unit for this user, under an idempotency key.
    pub fn buy_once(item_id: i64, user_id: impl Into<String>, key: impl Into<String>) -> Self {
        Call::Purchase {
            item_id,
            user_id: user_id.into(),
            quantity: 1,
            key: Some(key.into()),
        }
    }

    pub(crate) fn sql(&self) -> &'static str {
        match self {
            Call::Purchase { .. } => "SELECT flashsale.purchase_item($1, $2, $3, $4)",
            Call::BeginPayment { .. } => "SELECT flashsale.begin_payment($1)",
            Call::Confirm { .. } => "SELECT flashsale.confirm_order($1, $2)",
            Call::Cancel { .. } => "SELECT flashsale.cancel_order($1)",
            Call::Batch { .. } => "SELECT flashsale.purchase_batch($1)",
            Call::Peer { sql, .. } => sql,
        }
    }

    pub(crate) fn parameters(&self) -> Vec<Parameter<'_>> {
        match self {
            Call::Purchase {
                item_id,
                user_id,
                quantity,
                key,
            } => {
                vec![
                    (item_id, Type::INT8),
                    (user_id, Type::TEXT),
                    (quantity, Type::INT8),
                    (key, Type::TEXT),
                ]
            }
            Call::BeginPayment { order_id } | Call::Cancel { order_id } => {
                vec![(order_id, Type::INT8)]
            }
            Call::Confirm {
                order_id,
                payment_ref,
            } => vec![(order_id, Type::INT8), (payment_ref, Type::TEXT)],
            Call::Batch { requests } => vec![(requests, Type::JSONB)],
            Call::Peer {
                item_id, user_id, ..
            } => vec![(item_id, Type::INT8), (user_id, Type::TEXT)],
        }
    }

    /// Whether the call can be repeated if the outcome of the first one is unknown. A purchase
    /// needs an idempotency key for that; other calls can always be repeated.
    pub fn repeatable(&self) -> bool {
        !matches!(
            self,
            Call::Purchase { key: None, .. } | Call::Batch { .. } | Call::Peer { .. }
        )
    }
}
