//! Every call, and what it answers.

use std::time::Duration;

use flashsale_client::{
    Answer, Charge, ItemState, NewItem, OrderStatus, Patience, PaymentStatus, Purchase, Reason,
    Strategy, begin_payment, cancel_order, confirm_order, create_item, find_payment, get_order,
    health, item_availability, pause_item, payment_checks, purchase_batch, purchase_item,
    reconcile_stale_reservations, refund_order, refund_payment, refunds_due, restock_item,
    resume_item, user_orders,
};
use storm::connect;

use crate::shop::{Shop, done, refused, within};

fn charge(payment_ref: &str) -> Charge<'_> {
    Charge {
        payment_ref: Some(payment_ref),
        amount: Some(500),
        currency: Some("EUR"),
    }
}

#[tokio::test]
async fn an_order_is_bought_paid_and_refunded() {
    let shop = Shop::open(10).await;
    let (client, user) = (&shop.client, format!("alice of {}", shop.item_id));
    let purchase = Purchase::new(shop.item_id, &*user).key("basket 1");
    let order = done(purchase_item(client, &purchase).await);
    assert_eq!(order.status, OrderStatus::Reserved);
    assert_eq!((order.quantity, order.remaining_inventory), (1, 9));
    assert_eq!(
        (order.unit_price, order.currency.as_deref()),
        (Some(500), Some("EUR"))
    );
    assert!(!order.replayed && order.expires_at.is_some());
    let order_ref = &*order.order_ref;

    let begun = done(begin_payment(client, order_ref, Some(Duration::from_secs(60))).await);
    assert_eq!(begun.status, OrderStatus::Paying);
    assert_eq!(begun.order_ref.as_deref(), Some(order_ref));
    let payment_ref = format!("charge of {order_ref}");
    let confirmed = done(confirm_order(client, order_ref, charge(&payment_ref)).await);
    assert!(!confirmed.already_confirmed && !confirmed.reinstated);
    assert!(done(confirm_order(client, order_ref, charge(&payment_ref)).await).already_confirmed);

    let seen = done(get_order(client, order_ref).await);
    assert_eq!(
        (seen.status, seen.total),
        (OrderStatus::Confirmed, Some(500))
    );
    assert_eq!(seen.payments[0].status, PaymentStatus::Paid);
    assert_eq!(
        done(user_orders(client, &user).await).orders[0].order_ref,
        order_ref
    );

    let refunded = done(refund_order(client, order_ref, false).await);
    assert_eq!((refunded.restored, refunded.written_off), (0, 1));
    assert_eq!(
        done(find_payment(client, &payment_ref).await).status,
        PaymentStatus::Due
    );
    let paid_back = done(refund_payment(client, &payment_ref, Some("refund 1")).await);
    assert_eq!(paid_back.status, PaymentStatus::Refunded);
    assert_eq!(paid_back.refund_ref.as_deref(), Some("refund 1"));
    shop.assert_sound().await;
}

#[tokio::test]
async fn an_id_in_digits_names_an_order_too() {
    let shop = Shop::open(1).await;
    let client = &shop.client;
    let order = done(purchase_item(client, &Purchase::new(shop.item_id, "bob")).await);
    let digits = order.order_id.to_string();
    assert_eq!(
        done(get_order(client, &digits).await).order_ref,
        order.order_ref
    );
    done(begin_payment(client, &digits, None).await);
    let cancelled = done(cancel_order(client, &digits, Some("card declined")).await);
    assert_eq!((cancelled.restored, cancelled.already_closed), (1, false));
    assert!(done(cancel_order(client, &order.order_ref, None).await).already_closed);
    shop.assert_sound().await;
}

#[tokio::test]
async fn refusals_have_reasons_and_their_fields() {
    let shop = Shop::open(1).await;
    let client = &shop.client;
    let two = Purchase::new(shop.item_id, "carol").quantity(2);
    let refusal = refused(purchase_item(client, &two).await);
    assert_eq!(refusal.reason, Reason::OutOfStock);
    assert_eq!(refusal.remaining_inventory(), Some(1));
    assert!(!refusal.retryable && !refusal.message.is_empty());

    let refusal = refused(begin_payment(client, "1-0000000000", None).await);
    assert_eq!(refusal.reason, Reason::OrderNotFound);
    assert_eq!(refusal.order_ref(), Some("1-0000000000"));
    let payment_ref = format!("charge for nothing of {}", shop.item_id);
    let refusal = refused(confirm_order(client, "1-0000000000", charge(&payment_ref)).await);
    assert!(refusal.refund_required());
    assert_eq!(
        refused(user_orders(client, "nobody").await).reason,
        Reason::UserNotFound
    );
    assert_eq!(
        refused(find_payment(client, "no charge").await).reason,
        Reason::PaymentNotFound
    );
}

#[tokio::test]
async fn an_argument_that_is_not_taken_is_an_error_of_the_server() {
    let shop = Shop::open(1).await;
    let none = Purchase::new(shop.item_id, "dave").quantity(0);
    let error = purchase_item(&shop.client, &none)
        .await
        .expect_err("an error");
    assert_eq!(error.sqlstate(), Some("22023"));
    assert_eq!(
        error.about_arguments(),
        Some("quantity is 0: it must be at least 1")
    );
    assert!(!error.is_passing() && !error.is_outcome_unknown());
}

#[tokio::test]
async fn operators_manage_items() {
    let shop = Shop::open(5).await;
    let (client, item_id) = (&shop.client, shop.item_id);
    let restocked = done(restock_item(client, item_id, 3, Some("delivery"), Some("note 1")).await);
    assert_eq!((restocked.stock, restocked.replayed), (8, false));
    assert!(done(restock_item(client, item_id, 3, None, Some("note 1")).await).replayed);
    let refusal = refused(restock_item(client, item_id, -9, None, None).await);
    assert_eq!(refusal.reason, Reason::NotEnoughFree);

    assert!(done(pause_item(client, item_id).await).paused);
    let seen = done(item_availability(client, item_id).await);
    assert_eq!((seen.state, seen.available), (ItemState::Paused, false));
    assert!(!done(resume_item(client, item_id).await).paused);
    done(reconcile_stale_reservations(client, None, None).await);
    health(client).await.expect("it may be called");

    let item = NewItem {
        inventory: 1,
        starts_at: Some("2100-01-01T00:00:00Z"),
        reservation_ttl: Some(Duration::from_secs(60)),
        ..NewItem::default()
    };
    let later = create_item(client, &item).await.expect("an item");
    let refusal = refused(purchase_item(client, &Purchase::new(later, "erin")).await);
    assert_eq!(refusal.reason, Reason::SaleNotStarted);
    assert!(
        refusal
            .starts_at()
            .is_some_and(|time| time.starts_with("2100-01-01"))
    );
}

#[tokio::test]
async fn operators_expire_as_many_orders_as_they_say() {
    let shop = Shop::open(1).await;
    let expire = |max_orders| reconcile_stale_reservations(&shop.client, None, Some(max_orders));
    assert!(done(expire(1).await).expired <= 1);
    let error = expire(0).await.expect_err("an error");
    assert!(error.to_string().contains("max_orders is 0"), "{error}");
}

#[tokio::test]
async fn operators_see_what_is_due() {
    let shop = Shop::open(5).await;
    let client = &shop.client;
    let purchase = |user: &str| Purchase::new(shop.item_id, user);
    let order = done(purchase_item(client, &purchase("wim")).await);
    let window = Some(Duration::from_millis(1));
    done(begin_payment(client, &order.order_ref, window).await);
    let checks = within(async {
        loop {
            let mut checks = payment_checks(client).await.expect("checks");
            checks.retain(|check| check.item_id == shop.item_id);
            if !checks.is_empty() {
                return checks;
            }
        }
    })
    .await;
    let [check] = &checks[..] else {
        panic!("{checks:?}");
    };
    assert_eq!(
        (&check.order_ref, check.amount),
        (&order.order_ref, Some(500))
    );
    assert!(check.payment_deadline.contains('T'), "{check:?}");

    done(cancel_order(client, &order.order_ref, None).await);
    let payment_ref = format!("charge of {}", order.order_ref);
    let charge = Charge {
        payment_ref: Some(&payment_ref),
        ..Charge::default()
    };
    let refusal = refused(confirm_order(client, &order.order_ref, charge).await);
    assert!(refusal.refund_required());
    let due = || async {
        let mut due = refunds_due(client).await.expect("refunds");
        due.retain(|due| due.payment_ref.as_ref() == Some(&payment_ref));
        due
    };
    let [refund] = &due().await[..] else {
        panic!("{:?}", due().await);
    };
    assert_eq!(refund.order_id, Some(order.order_id));
    assert_eq!(refund.order_ref.as_ref(), Some(&order.order_ref));
    assert_eq!(
        (&*refund.why, refund.user_id.as_deref()),
        ("order_cancelled", Some("wim"))
    );
    done(refund_payment(client, &payment_ref, Some("refund 1")).await);
    assert_eq!(due().await, []);
}

#[tokio::test]
async fn a_batch_answers_each_purchase_for_itself() {
    let shop = Shop::open(3).await;
    let of = |user: &str| Purchase::new(shop.item_id, user);
    let purchases = [
        of("frank").quantity(2).key("a"),
        of("gina").quantity(2),
        of("frank").quantity(2).key("a"),
        of("gina"),
    ];
    let answers = purchase_batch(&shop.client, &purchases, None)
        .await
        .expect("answers");
    let sold: Vec<_> = answers
        .iter()
        .map(|answer| answer.success().is_some())
        .collect();
    assert_eq!(sold, [true, false, true, true]);
    assert!(answers[2].success().is_some_and(|order| order.replayed));
    assert_eq!(shop.inventory().await, 0);
}

#[tokio::test]
async fn a_call_takes_part_in_the_callers_transaction() {
    let mut shop = Shop::open(1).await;
    let purchase = Purchase::new(shop.item_id, "hal").strategy(Strategy::Atomic);
    let transaction = shop.client.transaction().await.expect("a transaction");
    done(purchase_item(&transaction, &purchase).await);
    transaction.rollback().await.expect("a rollback");
    assert_eq!((shop.inventory().await, shop.orders().await), (1, 0));
}

#[tokio::test]
async fn calls_work_through_a_pooler() {
    let shop = Shop::open(1).await;
    let client = connect(&shop.pooler()).await.expect("the pooler answers");
    let purchase = Purchase::new(shop.item_id, "ivy").strategy(Strategy::Grouped);
    let order = done(purchase_item(&client, &purchase).await);
    done(begin_payment(&client, &order.order_ref, None).await);
    done(cancel_order(&client, &order.order_ref, None).await);
    assert_eq!(shop.inventory().await, 1);
}

/// Somebody else holds the item's row for a while.
#[tokio::test]
async fn a_busy_purchase_is_repeated_with_its_key() {
    let shop = Shop::open(2).await;
    let mut other = connect(&shop.config).await.expect("a connection");
    let transaction = other.transaction().await.expect("a transaction");
    let of = |user: &str| Purchase::new(shop.item_id, user).strategy(Strategy::Nowait);
    done(purchase_item(&transaction, &of("joan")).await);

    let purchase = of("kim").key("basket 1");
    let refusal = refused(purchase_item(&shop.client, &purchase).await);
    assert_eq!(refusal.reason, Reason::Busy);
    assert!(refusal.retryable && refusal.retry_after().is_some());
    let patience = Patience::of(Duration::from_secs(60));
    let repeated = patience.purchase(&purchase, || purchase_item(&shop.client, &purchase));
    let release = async { transaction.commit().await.expect("a commit") };
    let (outcome, ()) = tokio::join!(repeated, release);
    done(outcome);
    assert_eq!(shop.orders().await, 2);
    assert!(matches!(
        purchase_item(&shop.client, &purchase).await,
        Ok(Answer::Success(order)) if order.replayed
    ));
}
