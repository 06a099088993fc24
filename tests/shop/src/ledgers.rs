//! Three ledgers that must agree: the stock, the orders, and the gateway's own book.

use std::collections::BTreeMap;
use std::fmt::{self, Display};
use std::time::Duration;

use gateway::book::{Book, Intent, Refund, Status};
use tokio::time::{Instant, sleep};
use tokio_postgres::Client;

use crate::stage::Stage;

const PATIENCE: Duration = Duration::from_secs(120);

struct Order {
    status: String,
    total: i64,
}

struct Charge {
    intent: String,
    order_id: i64,
    amount: i64,
    refunds: usize,
    refunded: i64,
}

/// What the ledgers say of an item, whose units may have several ids.
pub struct Ledgers {
    stock: i64,
    inventory: i64,
    orders: BTreeMap<i64, Order>,
    /// What `flashsale.payments` says of each charge.
    payments: BTreeMap<String, String>,
    /// Charges that went through, by the book.
    charges: Vec<Charge>,
    refused_intents: usize,
    audit: Vec<String>,
}

impl Ledgers {
    /// Waits until nothing is under way any more, then reads all three.
    pub async fn settled(stage: &Stage, items: &[i64]) -> Self {
        let deadline = Instant::now() + PATIENCE;
        let client = stage.database.owner().await;
        while is_under_way(&client, items).await || stage.book().undelivered().next().is_some() {
            assert!(
                Instant::now() < deadline,
                "still not settled after {PATIENCE:?}: {}",
                stage.apps[0].said()
            );
            sleep(Duration::from_millis(100)).await;
        }
        stage.database.finish_moves().await;
        Self::read(&client, &stage.book(), items).await
    }

    async fn read(client: &Client, book: &Book, items: &[i64]) -> Self {
        let item = "SELECT sum(stock)::bigint, sum(inventory)::bigint FROM flashsale.items WHERE item_id = ANY ($1)";
        let item = client.query_one(item, &[&items]).await.expect("the item");
        let orders = "SELECT order_id, status, coalesce(unit_price * quantity, 0) FROM flashsale.orders WHERE item_id = ANY ($1)";
        let orders = client.query(orders, &[&items]).await.expect("orders");
        let payments = "SELECT payment_ref, p.status FROM flashsale.payments p JOIN flashsale.orders USING (order_id) \
                        WHERE item_id = ANY ($1)";
        let payments = client.query(payments, &[&items]).await.expect("payments");
        let audit = "SELECT a::text FROM flashsale.audit() a";
        let audit = client.query(audit, &[]).await.expect("audit");
        let orders: BTreeMap<_, _> = orders
            .iter()
            .map(|row| {
                (
                    row.get(0),
                    Order {
                        status: row.get(1),
                        total: row.get(2),
                    },
                )
            })
            .collect();
        Self {
            stock: item.get(0),
            inventory: item.get(1),
            charges: charges(book),
            refused_intents: book
                .intents()
                .filter(|intent| intent.status != Status::Succeeded)
                .count(),
            payments: payments
                .iter()
                .map(|row| (row.get(0), row.get(1)))
                .collect(),
            orders,
            audit: audit.iter().map(|row| row.get(0)).collect(),
        }
    }

    pub fn orders_in(&self, status: &str) -> impl Iterator<Item = i64> {
        let has = move |(id, order): (&i64, &Order)| (order.status == status).then_some(*id);
        self.orders.iter().filter_map(has)
    }

    pub fn confirmed(&self) -> usize {
        self.orders_in("confirmed").count()
    }

    pub fn free(&self) -> i64 {
        self.inventory
    }

    /// Whatever does not add up; empty when all is well.
    pub fn complaints(&self) -> Vec<String> {
        let mut complaints = self.audit.clone();
        complaints.extend(
            self.charges
                .iter()
                .filter_map(|charge| self.complaint_about(charge)),
        );
        for order_id in self.orders_in("confirmed") {
            let total = self.orders[&order_id].total;
            let pays = |charge: &&Charge| charge.order_id == order_id && charge.refunds == 0;
            match self.charges.iter().filter(pays).collect::<Vec<_>>()[..] {
                [charge] if charge.amount == total => {}
                [charge] => complaints.push(format!(
                    "order {order_id} of {total} was charged {}",
                    charge.amount
                )),
                ref charges => {
                    complaints.push(format!("order {order_id} has {} charges", charges.len()))
                }
            }
        }
        let known =
            |payment: &&String| self.charges.iter().any(|charge| charge.intent == **payment);
        let strangers = self.payments.keys().filter(|payment| !known(payment));
        complaints.extend(strangers.map(|payment| format!("{payment} is not in the book")));
        let open = self.orders_in("reserved").chain(self.orders_in("paying"));
        complaints.extend(open.map(|order_id| format!("order {order_id} is still open")));
        if self.inventory + self.confirmed() as i64 != self.stock {
            let (free, sold) = (self.inventory, self.confirmed());
            complaints.push(format!(
                "{free} free and {sold} sold are not the stock of {}",
                self.stock
            ));
        }
        complaints
    }

    /// A charge pays a confirmed order, or was given back once.
    fn complaint_about(&self, charge: &Charge) -> Option<String> {
        let Charge {
            intent,
            order_id,
            refunds,
            ..
        } = charge;
        let order = self
            .orders
            .get(order_id)
            .map_or("none", |order| &order.status);
        let payment = self.payments.get(intent).map_or("unknown", String::as_str);
        let is_right = match payment {
            "paid" => order == "confirmed" && *refunds == 0,
            "refunded" => *refunds == 1 && charge.refunded == charge.amount,
            _ => false,
        };
        let words = || {
            format!(
                "{intent} of order {order_id} ({order}): {payment} here, refunded {refunds} times there"
            )
        };
        (!is_right).then(words)
    }
}

async fn is_under_way(client: &Client, items: &[i64]) -> bool {
    let sql = "SELECT EXISTS (SELECT FROM flashsale.orders WHERE item_id = ANY ($1) AND status IN ('reserved', 'paying')) \
               OR EXISTS (SELECT FROM flashsale.refunds_due)";
    client
        .query_one(sql, &[&items])
        .await
        .expect("a look at the orders")
        .get(0)
}

fn refunds_of<'a>(book: &'a Book, intent: &'a Intent) -> impl Iterator<Item = &'a Refund> {
    book.refunds()
        .filter(|refund| refund.payment_intent == intent.id)
}

/// What went through, by the book.
fn charges(book: &Book) -> Vec<Charge> {
    let went_through = book
        .intents()
        .filter(|intent| intent.status == Status::Succeeded);
    let charge = |intent: &Intent| Charge {
        intent: intent.id.clone(),
        order_id: intent.order_id().unwrap_or_default(),
        amount: intent.amount_received,
        refunds: refunds_of(book, intent).count(),
        refunded: refunds_of(book, intent).map(|refund| refund.amount).sum(),
    };
    went_through.map(charge).collect()
}

impl Display for Ledgers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let count = |status| self.orders_in(status).count();
        let gone = count("cancelled") + count("expired");
        let refunded = self
            .charges
            .iter()
            .filter(|charge| charge.refunds > 0)
            .count();
        let row = |f: &mut fmt::Formatter<'_>, cells: [(&str, i64); 3]| {
            let cells = cells.map(|(name, n)| format!("{name:<18}{n:>6}"));
            writeln!(f, "  {}", cells.join("   ").trim_end())
        };
        let kept = self.charges.len() - refunded;
        writeln!(
            f,
            "  {:<24}   {:<24}   {:<24}",
            "STOCK", "ORDERS", "THE GATEWAY'S BOOK"
        )?;
        row(
            f,
            [
                ("supplied", self.stock),
                ("confirmed", self.confirmed() as i64),
                ("charges kept", kept as i64),
            ],
        )?;
        row(
            f,
            [
                ("free", self.inventory),
                ("refunded", count("refunded") as i64),
                ("charges refunded", refunded as i64),
            ],
        )?;
        row(
            f,
            [
                ("sold", self.stock - self.inventory),
                ("cancelled, expired", gone as i64),
                ("never charged", self.refused_intents as i64),
            ],
        )
    }
}
