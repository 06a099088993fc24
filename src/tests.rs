//! Tests of the life of an order inside the server, each in a transaction that is rolled back.

use pgrx::prelude::*;

#[pg_schema]
mod tests {
    use super::*;
    use crate::pg::clock;
    use crate::store::direct;
    use crate::store::items::{self, Need};
    use flashsale_core::fit::Request;
    use flashsale_core::reason::Reason;
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

    /// Elsewhere only the time tells whether a statement was spared.
    #[pg_test]
    fn as_installed_tables_are_accessed_directly_and_changed_ones_are_not() {
        let item_id = item("5");
        let request = Request {
            item_id,
            user_id: "ann",
            quantity: 2,
            idempotency_key: None,
            default_ttl: 1_000_000,
        };
        let held = direct::lock_on_sale(item_id, 1).flatten().unwrap();
        let read = direct::read(item_id).flatten().unwrap();
        assert_eq!(read.version, held.version);
        assert!(direct::take(&held, 2) == Some(true));
        assert_eq!(direct::take(&held, 2), Some(false)); // another version
        let taken = direct::take_on_sale(item_id, 2).flatten().unwrap();
        assert_eq!((taken.inventory, taken.version), (3, held.version + 1));
        assert!(direct::take_on_sale(item_id, 2).unwrap().is_none());
        let requests = [&request, &request];
        let order_ids = direct::insert(&held, &requests, clock::now());
        assert_eq!(order_ids.map(|ids| ids.len()), Some(2));
        assert_sound();
        Spi::run("ALTER TABLE flashsale.items ALTER paused DROP DEFAULT").unwrap();
        Spi::run("ALTER TABLE flashsale.orders ALTER status DROP DEFAULT").unwrap();
        assert!(direct::read(item_id).is_none());
        assert!(direct::lock_on_sale(item_id, 1).is_none());
        assert!(direct::take(&held, 1).is_none());
        assert!(direct::take_on_sale(item_id, 1).is_none());
        assert!(direct::insert(&held, &[&request], clock::now()).is_none());
    }

    /// Every combination of stock, pause and times of sale that an item can have, as SQL. Their ids are
    /// not those of other tests, which run at the same time.
    fn items_of_all_kinds() -> Vec<i64> {
        let kinds =
            "INSERT INTO flashsale.items (item_id, inventory, stock, paused, starts_at, ends_at)
             SELECT 1000000 + row_number() OVER (), inventory, 1, paused, now() + starts, now() + ends
             FROM unnest('{0,1}'::bigint[]) AS inventory, unnest('{f,t}'::boolean[]) AS paused,
                  unnest('{NULL,-2 h,2 h}'::interval[]) AS starts,
                  unnest('{NULL,-1 h,1 h,3 h}'::interval[]) AS ends
             WHERE (starts < ends) IS NOT FALSE RETURNING item_id";
        Spi::connect_mut(|client| {
            let rows = client.update(kinds, None, &[]).unwrap();
            rows.map(|row| row.get(1).unwrap().unwrap()).collect()
        })
    }

    /// The rule stands in `flashsale-core`, in the statements that lock an item, and in
    /// `flashsale.item_state`.
    #[pg_test]
    fn sql_and_code_agree_on_what_is_on_sale() {
        for item_id in items_of_all_kinds() {
            let state = call(&format!("item_availability({item_id})"))["state"].clone();
            Spi::connect(|client| {
                let item = items::read(client, item_id).unwrap().unwrap().item;
                let refused = item.not_on_sale(clock::now());
                let word = match refused {
                    None => "on_sale",
                    Some(Reason::OutOfStock) => "sold_out",
                    Some(Reason::SaleNotStarted) => "not_started",
                    Some(Reason::SaleEnded) => "ended",
                    Some(Reason::SalePaused) => "paused",
                    Some(other) => panic!("{other:?}"),
                };
                assert_eq!(state, json!(word), "{item:?}");
                let awaited = items::await_on_sale(client, item_id, Need::Units).unwrap();
                assert_eq!(awaited.is_some(), refused.is_none(), "{item:?}");
                let taken = items::take_on_sale(client, item_id, 1).unwrap();
                assert_eq!(taken.is_some(), refused.is_none(), "{item:?}");
            });
        }
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
