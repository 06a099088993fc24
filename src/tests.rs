//! The life of an order inside the server, one rolled-back transaction a test.

use pgrx::prelude::*;

#[pg_schema]
mod tests {
    use super::*;
    use crate::pg::clock;
    use crate::store::{append, row};
    use flashsale_core::fit::Request;
    use pgrx::JsonB;
    use serde_json::{Value, json};

    fn call(sql: &str) -> Value {
        let JsonB(answer) = Spi::get_one(&format!("SELECT flashsale.{sql}"))
            .unwrap()
            .unwrap();
        answer
    }

    fn item(arguments: &str) -> i64 {
        Spi::get_one(&format!("SELECT flashsale.create_item({arguments})"))
            .unwrap()
            .unwrap()
    }

    fn inventory(item_id: i64) -> Value {
        call(&format!("item_availability({item_id})"))["remaining_inventory"].clone()
    }

    fn assert_sound() {
        let broken: Option<i64> = Spi::get_one("SELECT count(*) FROM flashsale.audit()").unwrap();
        assert_eq!(broken, Some(0));
    }

    #[pg_test]
    fn an_order_from_reservation_to_refund() {
        let item_id = item("2, 'console', 50000, 'EUR'");
        let order = call(&format!("purchase_item({item_id}, 'ann')"));
        assert_eq!(order["remaining_inventory"], json!(1));
        let order_id = &order["order_id"];
        assert_eq!(
            call(&format!("begin_payment({order_id})"))["status"],
            json!("paying")
        );
        assert_eq!(
            call(&format!("confirm_order({order_id}, 'ch_1', 50000)"))["status"],
            json!("confirmed")
        );
        assert_eq!(
            call(&format!("refund_order({order_id})"))["restored"],
            json!(1)
        );
        assert_eq!(
            call("refund_payment('ch_1')")["already_refunded"],
            json!(false)
        );
        assert_eq!(inventory(item_id), json!(2));
        assert_sound();
    }

    #[pg_test]
    fn as_installed_a_purchase_goes_past_the_executor() {
        let item_id = item("5");
        let held = row::lock_sellable(item_id, None).flatten().unwrap();
        assert_eq!(
            row::read(item_id).flatten().map(|read| read.place),
            Some(held.place)
        );
        assert!(row::take(&held, 2).flatten().is_some());
        assert_eq!(row::take(&held, 2), Some(None), "another version");
        let request = Request {
            item_id,
            user_id: "ann",
            quantity: 2,
            idempotency_key: None,
            default_ttl: 1_000_000,
        };
        assert!(append::insert(&held, &[&request], clock::now()).is_some());
        assert_sound();
        Spi::run("ALTER TABLE flashsale.items ADD COLUMN color text").unwrap();
        Spi::run("ALTER TABLE flashsale.orders ADD COLUMN color text").unwrap();
        assert!(row::read(item_id).is_none());
        assert!(row::lock_sellable(item_id, None).is_none());
        assert!(row::take(&held, 1).is_none());
        assert!(append::insert(&held, &[&request], clock::now()).is_none());
    }

    #[pg_test]
    fn a_crowd_in_one_statement_buys_exactly_what_there_is() {
        let item_id = item("7");
        let sold: Option<i64> = Spi::get_one(&format!(
            "SELECT count(*) FROM generate_series(1, 20) AS buyer, \
             LATERAL flashsale.purchase_item({item_id}, buyer) AS answer WHERE (answer->>'success')::boolean"
        ))
        .unwrap();
        assert_eq!(sold, Some(7));
        assert_eq!(inventory(item_id), json!(0));
        assert_sound();
    }

    #[pg_test]
    fn a_stale_reservation_gives_its_units_back_once() {
        let item_id = item("5");
        let order_id = call(&format!("purchase_item({item_id}, 'ann', 3)"))["order_id"].clone();
        let run = call("reconcile_stale_reservations('0 s')");
        assert_eq!((&run["expired"], &run["restored"]), (&json!(1), &json!(3)));
        assert_eq!(
            call(&format!("cancel_order({order_id})"))["already_closed"],
            json!(true)
        );
        assert_eq!(inventory(item_id), json!(5));
        assert_sound();
    }

    #[pg_test(error = "quantity is 0: it must be at least 1")]
    fn a_wrong_argument_is_an_error_that_names_it() {
        call("purchase_item(1, 'ann', 0)");
    }
}
