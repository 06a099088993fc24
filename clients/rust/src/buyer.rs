//! The functions for the application. A role calls them after `flashsale.grant_app`.

use std::time::Duration;

use serde_json::value::RawValue;
use tokio_postgres::GenericClient;
use tokio_postgres::types::{Json, Type};

use crate::answer::Answer;
use crate::call::{ask, value};
use crate::error::Error;
use crate::outcomes::{
    Availability, Cancelled, Confirmed, FoundPayment, Order, PaymentBegun, Reservation, UserOrders,
};
use crate::purchase::{Purchase, Strategy};

/// Reserves units of an item for a user.
///
/// Works in the caller's transaction, except under [`Strategy::Grouped`], which commits by itself and
/// is refused in a transaction block.
pub async fn purchase_item(
    client: &impl GenericClient,
    purchase: &Purchase,
) -> Result<Answer<Reservation>, Error> {
    let sql = "SELECT flashsale.purchase_item($1, $2, $3, $4, $5)";
    let strategy = purchase.strategy.map(Strategy::name);
    ask(
        client,
        sql,
        &[
            (&purchase.item_id, Type::INT8),
            (&&*purchase.user_id, Type::TEXT),
            (&purchase.quantity, Type::INT8),
            (&purchase.key.as_deref(), Type::TEXT),
            (&strategy, Type::TEXT),
        ],
    )
    .await
}

/// Makes up to 1,000 independent purchases in one call, in the caller's transaction. The answers have
/// the order of the purchases. `strategy` is that of all of them, by default the session's. A purchase
/// with an argument that the extension does not take is an error of the whole call, which then changes
/// nothing. So does a call that is cancelled ([`Error::RolledBack`]).
pub async fn purchase_batch<'a>(
    client: &impl GenericClient,
    purchases: impl IntoIterator<Item = &'a Purchase>,
    strategy: Option<Strategy>,
) -> Result<Vec<Answer<Reservation>>, Error> {
    let purchases: Vec<&Purchase> = purchases.into_iter().collect();
    let purchases = Json(&purchases);
    let row = match strategy.map(Strategy::name) {
        None => {
            let sql = "SELECT flashsale.purchase_batch($1)";
            client
                .query_typed_one(sql, &[(&purchases, Type::JSONB)])
                .await
        }
        Some(strategy) => {
            let sql = "SELECT flashsale.purchase_batch($1, $2)";
            let parameters = [(&purchases as _, Type::JSONB), (&strategy as _, Type::TEXT)];
            client.query_typed_one(sql, &parameters).await
        }
    };
    let row = row.map_err(Error::of_batch)?;
    let Json(answers): Json<Vec<&RawValue>> = value(&row)?;
    let answers: Result<Vec<_>, _> = answers.into_iter().map(Answer::read).collect();
    Ok(answers?)
}

/// Marks an order as being paid: it no longer expires by itself. Call it before the card is charged,
/// and do not charge if it is refused. After `payment_window` (by default the extension's setting) the
/// order is listed for a look at the gateway.
///
/// `order_ref` is the order's ref, or its id in digits, here and below.
pub async fn begin_payment(
    client: &impl GenericClient,
    order_ref: &str,
    payment_window: Option<Duration>,
) -> Result<Answer<PaymentBegun>, Error> {
    let sql = "SELECT flashsale.begin_payment($1, make_interval(secs => $2))";
    let seconds = payment_window.map(|window| window.as_secs_f64());
    let parameters = [(&order_ref as _, Type::TEXT), (&seconds as _, Type::FLOAT8)];
    ask(client, sql, &parameters).await
}

/// A charge that the gateway reported as successful.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Charge<'a> {
    /// The gateway's id of the charge.
    pub payment_ref: Option<&'a str>,
    /// The whole amount, in minor units; compared with the order's if it is named.
    pub amount: Option<i64>,
    /// Three letters in any case; compared with the order's if it is named.
    pub currency: Option<&'a str>,
}

/// Reports a successful charge, which pays the order or becomes due for refund. Call it for every
/// charge and webhook, any number of times.
pub async fn confirm_order(
    client: &impl GenericClient,
    order_ref: &str,
    charge: Charge<'_>,
) -> Result<Answer<Confirmed>, Error> {
    let sql = "SELECT flashsale.confirm_order($1, $2, $3, $4)";
    let parameters = [
        (&order_ref as _, Type::TEXT),
        (&charge.payment_ref as _, Type::TEXT),
        (&charge.amount as _, Type::INT8),
        (&charge.currency as _, Type::TEXT),
    ];
    ask(client, sql, &parameters).await
}

/// Cancels an order that is reserved or being paid. Its units go back on sale exactly once.
pub async fn cancel_order(
    client: &impl GenericClient,
    order_ref: &str,
    reason: Option<&str>,
) -> Result<Answer<Cancelled>, Error> {
    let sql = "SELECT flashsale.cancel_order($1, $2)";
    let parameters = [(&order_ref as _, Type::TEXT), (&reason as _, Type::TEXT)];
    ask(client, sql, &parameters).await
}

/// One order with all its charges.
pub async fn get_order(
    client: &impl GenericClient,
    order_ref: &str,
) -> Result<Answer<Order>, Error> {
    let sql = "SELECT flashsale.get_order($1)";
    ask(client, sql, &[(&order_ref, Type::TEXT)]).await
}

/// The orders of a user, newest first, 100 at most.
pub async fn user_orders(
    client: &impl GenericClient,
    user_id: &str,
) -> Result<Answer<UserOrders>, Error> {
    let sql = "SELECT flashsale.user_orders($1)";
    ask(client, sql, &[(&user_id, Type::TEXT)]).await
}

/// What became of a charge.
pub async fn find_payment(
    client: &impl GenericClient,
    payment_ref: &str,
) -> Result<Answer<FoundPayment>, Error> {
    let sql = "SELECT flashsale.find_payment($1)";
    ask(client, sql, &[(&payment_ref, Type::TEXT)]).await
}

/// What a shop page shows about an item.
pub async fn item_availability(
    client: &impl GenericClient,
    item_id: i64,
) -> Result<Answer<Availability>, Error> {
    let sql = "SELECT flashsale.item_availability($1)";
    ask(client, sql, &[(&item_id, Type::INT8)]).await
}
