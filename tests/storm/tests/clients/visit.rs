//! Buyers with a life after the purchase: they pay, change their minds, vanish, come back late.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::Duration;

use storm::{Answer, Call, Pool, explain};
use tokio::task::{JoinHandle, JoinSet};
use tokio::time::sleep;
use tokio_postgres::Client;

use crate::shop::{Shop, within};
use crate::sql::{ask, value};

/// A sold-out buyer looks again that often: others give units back meanwhile.
const LOOKS: usize = 20;
const BETWEEN_LOOKS: Duration = Duration::from_millis(10);
/// Reservations older than this are expired while the storm goes on.
const OLDER_THAN: Duration = Duration::from_millis(50);
const KINDS: usize = 10;
const PAYS_LATE: usize = 2;

/// The answers that a buyer got, with which the tables must agree in the end.
#[derive(Debug)]
pub struct Trace {
    pub order_id: i64,
    pub user_id: String,
    pub status: &'static str,
    /// Each charge reported under a ref, and whether it paid for the order or is due for refund.
    pub charges: Vec<(String, &'static str)>,
}

/// Sends visitors in until all have gone, with two reconcilers at work, then expires what is left.
pub async fn visitors(
    shop: &Shop,
    pool: &Arc<Pool>,
    item_id: i64,
    numbers: impl Iterator<Item = usize>,
) -> Vec<Trace> {
    visitors_through(shop, std::slice::from_ref(pool), item_id, numbers).await
}

/// The same through several pools, each visitor through one of them.
pub async fn visitors_through(
    shop: &Shop,
    pools: &[Arc<Pool>],
    item_id: i64,
    mut numbers: impl Iterator<Item = usize>,
) -> Vec<Trace> {
    let desk = Arc::new(shop.connect().await);
    let visitor = |n: usize| Visitor {
        pool: Arc::clone(&pools[n % pools.len()]),
        desk: Arc::clone(&desk),
        item_id,
    };
    // The first ones come before anything expires. Later ones may all be too late, on a slow machine.
    let (first, late): (Vec<_>, Vec<_>) = numbers
        .by_ref()
        .take(KINDS)
        .partition(|n| n % KINDS != PAYS_LATE);
    let mut traces = Vec::new();
    for n in first {
        traces.extend(within(visit(&visitor(n), n)).await);
    }
    let closing = Arc::new(AtomicBool::new(false));
    let mut reconcilers = Vec::new();
    for _ in 0..2 {
        reconcilers.push(reconciler(shop.connect().await, Arc::clone(&closing)));
    }
    let mut crowd = JoinSet::new();
    for n in late.into_iter().chain(numbers) {
        let visitor = visitor(n);
        crowd.spawn(async move { visit(&visitor, n).await });
    }
    traces.extend(within(crowd.join_all()).await.into_iter().flatten());
    closing.store(true, Relaxed);
    for reconciler in reconcilers {
        within(reconciler)
            .await
            .expect("the reconciler does not fail");
    }
    expire_the_rest(shop).await;
    traces
}

fn reconciler(client: Client, closing: Arc<AtomicBool>) -> JoinHandle<()> {
    tokio::spawn(async move {
        let reconcile = format!(
            "SELECT flashsale.reconcile_stale_reservations(older_than => '{} ms')",
            OLDER_THAN.as_millis()
        );
        while !closing.load(Relaxed) {
            let answer = ask(&client, &reconcile).await;
            assert!(answer.success() || answer.retryable(), "{answer:?}");
            sleep(Duration::from_millis(10)).await;
        }
    })
}

/// No session holds a lock any more, so nothing is skipped.
async fn expire_the_rest(shop: &Shop) {
    let reconcile =
        "SELECT flashsale.reconcile_stale_reservations(older_than => '0 s', max_orders => 100000)";
    let answer = ask(&shop.client, reconcile).await;
    assert!(
        answer.success() && answer.number("skipped") == Some(0) && !answer.flag("more"),
        "{answer:?}"
    );
}

struct Visitor {
    pool: Arc<Pool>,
    desk: Arc<Client>,
    item_id: i64,
}

impl Visitor {
    async fn settle(&self, call: Call) -> Answer {
        match self.pool.settle(&call).await {
            Ok(answer) => answer,
            Err(error) => panic!("{call:?} has no final answer: {}", explain(&error)),
        }
    }

    /// An order, unless every look finds the item sold out.
    async fn reserve(&self, user_id: &str) -> Option<i64> {
        for _ in 0..LOOKS {
            let answer = self.settle(Call::buy(self.item_id, user_id)).await;
            if answer.success() {
                return answer.order_id();
            }
            assert_eq!(answer.reason(), "out_of_stock");
            sleep(BETWEEN_LOOKS).await;
        }
        None
    }

    /// False when the reservation expired before; then nothing may be charged.
    async fn begin_payment(&self, trace: &Trace) -> bool {
        let answer = self
            .settle(Call::BeginPayment {
                order_id: trace.order_id,
            })
            .await;
        assert!(
            answer.success() || answer.reason() == "order_expired",
            "{answer:?}"
        );
        answer.success()
    }

    async fn report(&self, order_id: i64, payment_ref: Option<&str>) -> Answer {
        self.settle(Call::Confirm {
            order_id,
            payment_ref: payment_ref.map(str::to_owned),
        })
        .await
    }

    /// Reports a charge and notes the answer.
    async fn charge(&self, trace: &mut Trace, payment_ref: &str) {
        let answer = self.report(trace.order_id, Some(payment_ref)).await;
        trace.note(payment_ref, &answer);
    }

    async fn until_expired(&self, order_id: i64) {
        let expired = "SELECT status = 'expired' FROM flashsale.orders WHERE order_id = $1";
        while !value::<bool>(&self.desk, expired, &[&order_id]).await {
            sleep(BETWEEN_LOOKS).await;
        }
    }
}

impl Trace {
    fn note(&mut self, payment_ref: &str, answer: &Answer) {
        let fate = if answer.success() {
            self.status = "confirmed";
            "paid"
        } else {
            assert!(
                answer.flag("refund_required"),
                "{payment_ref} is neither paid nor due: {answer:?}"
            );
            "due"
        };
        self.charges.push((payment_ref.into(), fate));
    }
}

/// One buyer in ten declines, one vanishes, one pays late, one reports twice, and so on.
async fn visit(visitor: &Visitor, n: usize) -> Option<Trace> {
    let user_id = format!("visitor {n}");
    let order_id = visitor.reserve(&user_id).await?;
    // What the reconciler makes of an order that nobody pays.
    let mut trace = Trace {
        order_id,
        user_id,
        status: "expired",
        charges: Vec::new(),
    };
    let first = format!("charge {n}");
    let second = format!("second charge {n}");
    match n % KINDS {
        0 => decline(visitor, &mut trace).await,
        1 => {}
        PAYS_LATE => pay_late(visitor, &mut trace, &first).await,
        7 => cancel_late(visitor, &mut trace, &first).await,
        _ if !visitor.begin_payment(&trace).await => {}
        3 => report_twice(visitor, &mut trace, &first).await,
        4 => pay_twice_at_once(visitor, &mut trace, &first, &second).await,
        5 => webhook_and_browser(visitor, &mut trace, &first).await,
        6 => pay_while_cancelling(visitor, &mut trace, &first).await,
        8 => {
            visitor.charge(&mut trace, &first).await;
            visitor.charge(&mut trace, &second).await;
        }
        _ => visitor.charge(&mut trace, &first).await,
    }
    Some(trace)
}

/// The browser and the server both cancel: the units come back once.
async fn decline(visitor: &Visitor, trace: &mut Trace) {
    if visitor.begin_payment(trace).await {
        let cancel = || {
            visitor.settle(Call::Cancel {
                order_id: trace.order_id,
            })
        };
        let (one, other) = tokio::join!(cancel(), cancel());
        let restored = [&one, &other].map(|answer| answer.number("restored"));
        assert!(
            matches!(restored, [Some(1), Some(0)] | [Some(0), Some(1)]),
            "{one:?} {other:?}"
        );
        trace.status = "cancelled";
    }
}

/// The charge comes after the order expired: the units again if they are free, else due.
async fn pay_late(visitor: &Visitor, trace: &mut Trace, payment_ref: &str) {
    visitor.until_expired(trace.order_id).await;
    let answer = visitor.report(trace.order_id, Some(payment_ref)).await;
    assert!(
        answer.flag("reinstated") || answer.reason() == "order_expired",
        "{answer:?}"
    );
    trace.note(payment_ref, &answer);
    // Its fate is final, even if units come back meanwhile.
    let again = visitor.report(trace.order_id, Some(payment_ref)).await;
    assert_eq!(
        (again.success(), again.reason()),
        (answer.success(), answer.reason()),
        "{again:?}"
    );
}

async fn report_twice(visitor: &Visitor, trace: &mut Trace, payment_ref: &str) {
    let twice = || visitor.report(trace.order_id, Some(payment_ref));
    let (one, other) = tokio::join!(twice(), twice());
    assert!(one.success() && other.success(), "{one:?} {other:?}");
    assert_ne!(
        one.flag("already_confirmed"),
        other.flag("already_confirmed"),
        "{one:?} {other:?}"
    );
    trace.note(payment_ref, &one);
}

async fn pay_twice_at_once(visitor: &Visitor, trace: &mut Trace, first: &str, second: &str) {
    let order_id = trace.order_id;
    let (one, other) = tokio::join!(
        visitor.report(order_id, Some(first)),
        visitor.report(order_id, Some(second))
    );
    assert_ne!(
        one.success(),
        other.success(),
        "one of two charges pays: {one:?} {other:?}"
    );
    trace.note(first, &one);
    trace.note(second, &other);
}

/// The same charge, once with its ref and once without: one payment.
async fn webhook_and_browser(visitor: &Visitor, trace: &mut Trace, payment_ref: &str) {
    let order_id = trace.order_id;
    let (webhook, browser) = tokio::join!(
        visitor.report(order_id, Some(payment_ref)),
        visitor.report(order_id, None)
    );
    assert!(
        webhook.success() && browser.success(),
        "{webhook:?} {browser:?}"
    );
    trace.note(payment_ref, &webhook);
}

/// Either the charge came first and stands, or the order is gone and the charge is due.
async fn pay_while_cancelling(visitor: &Visitor, trace: &mut Trace, payment_ref: &str) {
    let cancel = visitor.settle(Call::Cancel {
        order_id: trace.order_id,
    });
    let (charge, cancel) = tokio::join!(visitor.report(trace.order_id, Some(payment_ref)), cancel);
    assert_ne!(charge.success(), cancel.success(), "{charge:?} {cancel:?}");
    let reason = if cancel.success() {
        charge.reason()
    } else {
        cancel.reason()
    };
    assert_eq!(
        reason,
        if cancel.success() {
            "order_cancelled"
        } else {
            "already_confirmed"
        }
    );
    trace.status = "cancelled";
    trace.note(payment_ref, &charge);
}

/// Changes their mind just when the reservation is expired: one of both gives the units back.
async fn cancel_late(visitor: &Visitor, trace: &mut Trace, payment_ref: &str) {
    sleep(OLDER_THAN).await;
    let cancel = visitor
        .settle(Call::Cancel {
            order_id: trace.order_id,
        })
        .await;
    assert!(cancel.success(), "{cancel:?}");
    let restored = if cancel.flag("already_closed") { 0 } else { 1 };
    assert_eq!(cancel.number("restored"), Some(restored), "{cancel:?}");
    if !cancel.flag("already_closed") {
        trace.status = "cancelled";
        visitor.charge(trace, payment_ref).await;
        assert_eq!(trace.status, "cancelled", "a cancelled order was paid");
    }
}
