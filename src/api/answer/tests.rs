//! The answer to everything that can happen, without a server.

use super::*;
use flashsale_core::charge::PaymentOrder;
use flashsale_core::item::Currency;
use flashsale_core::order::Expired;
use flashsale_core::order_ref::{OrderRef, RefCode};

/// Times as numbers, and no chance.
const PLAIN: Context = Context {
    iso: |at| format!("at {at}"),
    retry_after_ms: || 7,
};

/// What every failure has beside its own fields.
fn refused(reason: Reason, fields: Value) -> Value {
    let mut answer = json!({
        "success": false,
        "reason": reason.code(),
        "message": reason.message(),
        "retryable": reason.retryable(),
    });
    let Value::Object(fields) = fields else {
        panic!("{fields} is no object")
    };
    answer.as_object_mut().unwrap().extend(fields);
    answer
}

fn busy_answer() -> Value {
    json!({
        "success": false,
        "reason": "busy",
        "message": "Somebody else is being served; try again in a moment.",
        "retryable": true,
        "retry_after_ms": 7,
    })
}

const ORDER_REF: OrderRef = OrderRef {
    order_id: 5,
    code: RefCode::new([0; 10]),
};

/// The names of one order, each with what an answer about the order contains of it, and an answer
/// that there is no such order.
fn names() -> [(OrderName<'static>, Value, Value); 2] {
    let text = "5-ooooooOOOO";
    let order_ref = ORDER_REF;
    [
        (
            OrderName::Id(5),
            json!({ "order_id": 5 }),
            json!({ "order_id": 5 }),
        ),
        (
            OrderName::Ref { order_ref, text },
            json!({ "order_id": 5, "order_ref": "5-0000000000" }),
            json!({ "order_ref": text }),
        ),
    ]
}

/// The fields with those of another object.
fn with(mut fields: Value, others: &Value) -> Value {
    let others = others.as_object().unwrap().clone();
    fields.as_object_mut().unwrap().extend(others);
    fields
}

fn order() -> PriorOrder {
    PriorOrder {
        order_ref: ORDER_REF,
        quantity: 2,
        status: Status::Reserved,
        expires_at: Some(60),
        unit_price: Some(900),
        currency: Currency::parse("EUR"),
        remaining_inventory: 8,
    }
}

fn reserved_answer() -> Value {
    json!({
        "success": true,
        "order_id": 5,
        "order_ref": "5-0000000000",
        "item_id": 1,
        "quantity": 2,
        "status": "reserved",
        "remaining_inventory": 8,
        "expires_at": "at 60",
        "unit_price": 900,
        "currency": "EUR",
        "replayed": false,
    })
}

fn purchase(outcome: Outcome) -> Value {
    serde_json::to_value(purchased(1, &outcome, &PLAIN)).unwrap()
}

#[test]
fn a_reservation_and_its_replay() {
    let reserved = |order, replayed| purchase(Outcome::Reserved { order, replayed });
    let mut expected = reserved_answer();
    assert_eq!(reserved(order(), false), expected);
    expected["replayed"] = json!(true);
    assert_eq!(reserved(order(), true), expected);
    for status in [Status::Paying, Status::Confirmed] {
        let order = PriorOrder { status, ..order() };
        expected["status"] = json!(status.name());
        expected["expires_at"] = Value::Null;
        assert_eq!(reserved(order, true), expected);
    }
}

#[test]
fn a_reservation_without_a_price() {
    let order = PriorOrder {
        unit_price: None,
        currency: None,
        ..order()
    };
    let mut expected = reserved_answer();
    expected["unit_price"] = Value::Null;
    expected["currency"] = Value::Null;
    let replayed = false;
    assert_eq!(purchase(Outcome::Reserved { order, replayed }), expected);
}

#[test]
fn a_key_whose_order_is_dead_or_another() {
    for reason in [
        Reason::OrderCancelled,
        Reason::OrderExpired,
        Reason::OrderRefunded,
        Reason::IdempotencyKeyReused,
    ] {
        let order_ref = ORDER_REF;
        let about = json!({ "item_id": 1, "order_id": 5, "order_ref": "5-0000000000" });
        assert_eq!(
            purchase(Outcome::DeadReplay { order_ref, reason }),
            refused(reason, about)
        );
    }
}

#[test]
fn an_item_that_nobody_can_buy() {
    for (reason, fields) in [
        (
            Reason::OutOfStock,
            json!({ "item_id": 1, "remaining_inventory": 3 }),
        ),
        (
            Reason::SaleNotStarted,
            json!({ "item_id": 1, "starts_at": "at 10" }),
        ),
        (
            Reason::SaleEnded,
            json!({ "item_id": 1, "ends_at": "at 20" }),
        ),
        (Reason::SalePaused, json!({ "item_id": 1 })),
    ] {
        let outcome = Outcome::Unavailable {
            reason,
            inventory: 3,
            starts_at: Some(10),
            ends_at: Some(20),
        };
        assert_eq!(purchase(outcome), refused(reason, fields));
    }
}

#[test]
fn a_purchase_that_meets_a_limit_no_item_or_others() {
    let outcome = Outcome::LimitReached {
        max_per_user: Some(2),
        orders: [9, 8].into_iter().collect(),
    };
    let about = json!({ "item_id": 1, "max_per_user": 2, "order_ids": [9, 8] });
    assert_eq!(purchase(outcome), refused(Reason::UserLimitReached, about));
    for (outcome, reason) in [
        (Outcome::NotFound, Reason::ItemNotFound),
        (Outcome::Conflict, Reason::Conflict),
    ] {
        assert_eq!(purchase(outcome), refused(reason, json!({ "item_id": 1 })));
    }
    assert_eq!(purchase(Outcome::Busy), busy_answer());
}

/// Asserts on the answers to a move of an order by each of its names: to those that are done, with
/// the fields that they must have, and to refusals.
fn assert_moves<T: Copy>(
    to_json: fn(&OrderName<'_>, Moved<T>, &Context) -> Value,
    done: &[(T, Value)],
) {
    for (name, order, unknown) in names() {
        let to_json = |moved| to_json(&name, moved, &PLAIN);
        for (moved, fields) in done {
            let expected = with(json!({ "success": true }), &order);
            assert_eq!(to_json(Moved::Done(*moved)), with(expected, fields));
        }
        let (status, reason) = (Status::Confirmed, Reason::AlreadyConfirmed);
        let about = with(json!({ "status": "confirmed" }), &order);
        assert_eq!(
            to_json(Moved::Refused { status, reason }),
            refused(reason, about)
        );
        assert_eq!(
            to_json(Moved::NotFound),
            refused(Reason::OrderNotFound, unknown)
        );
        assert_eq!(to_json(Moved::Busy), busy_answer());
    }
    assert_eq!(
        to_json(&OrderName::Unknown("x"), Moved::NotFound, &PLAIN),
        refused(Reason::OrderNotFound, json!({ "order_ref": "x" }))
    );
}

#[test]
fn begin_payment() {
    let payment_deadline = 60;
    let fields = json!({ "status": "paying", "payment_deadline": "at 60" });
    assert_moves(begun_to_json, &[(Begun { payment_deadline }, fields)]);
}

#[test]
fn cancel_order() {
    let cancelled = [
        (Status::Cancelled, 2, false),
        (Status::Cancelled, 0, true),
        (Status::Expired, 0, true),
    ]
    .map(|(status, restored, already_closed)| {
        let fields = json!({
            "status": status.name(),
            "restored": restored,
            "already_closed": already_closed,
        });
        (Cancelled { status, restored }, fields)
    });
    assert_moves(cancelled_to_json, &cancelled);
}

#[test]
fn refund_order() {
    let refunded =
        [(2, 0, false), (0, 2, false), (0, 0, true)].map(|(restored, written_off, already)| {
            let fields = json!({
                "status": "refunded",
                "restored": restored,
                "written_off": written_off,
                "already_refunded": already,
            });
            let refunded = Refunded {
                restored,
                written_off,
            };
            (refunded, fields)
        });
    assert_moves(refunded_to_json, &refunded);
}

#[test]
fn confirm_order() {
    for (name, order, unknown) in names() {
        let to_json = |confirmed| confirmed_to_json(&name, confirmed, &PLAIN);
        for (confirmed, already_confirmed, reinstated) in [
            (Confirmed::Paid, false, false),
            (Confirmed::PaidBefore, true, false),
            (Confirmed::Reinstated, false, true),
        ] {
            let fields = json!({
                "success": true,
                "status": "confirmed",
                "already_confirmed": already_confirmed,
                "reinstated": reinstated,
            });
            assert_eq!(to_json(confirmed), with(fields, &order));
        }
        for (reason, about) in [
            (Reason::OrderExpired, &order),
            (Reason::OrderNotFound, &unknown),
            (Reason::PaymentRefInUse, &unknown),
        ] {
            for refund_required in [true, false] {
                let fields = with(json!({ "refund_required": refund_required }), about);
                assert_eq!(
                    to_json(Confirmed::Refused {
                        reason,
                        refund_required
                    }),
                    refused(reason, fields)
                );
            }
        }
        assert_eq!(to_json(Confirmed::Busy), busy_answer());
    }
}

#[test]
fn refund_payment() {
    let to_json = |refunded| payment_refunded_to_json("ch_1", &refunded, &PLAIN);
    let order = |order_id, order_ref: Option<&str>| PaymentOrder {
        order_id,
        order_ref: order_ref.map(str::to_owned),
    };
    for (refund_ref, already_refunded) in [(Some("re_1"), false), (None, false), (None, true)] {
        let refunded = PaymentRefunded::Done {
            order: order(None, Some("lost")),
            refund_ref: refund_ref.map(str::to_owned),
            already_refunded,
        };
        assert_eq!(
            to_json(refunded),
            json!({
                "success": true,
                "payment_ref": "ch_1",
                "order_id": null,
                "order_ref": "lost",
                "status": "refunded",
                "refund_ref": refund_ref,
                "already_refunded": already_refunded,
            })
        );
    }
    assert_eq!(
        to_json(PaymentRefunded::NotDue(order(Some(5), None))),
        refused(
            Reason::PaymentNotDue,
            json!({ "payment_ref": "ch_1", "order_id": 5, "order_ref": null })
        )
    );
    assert_eq!(
        to_json(PaymentRefunded::NotFound),
        refused(Reason::PaymentNotFound, json!({ "payment_ref": "ch_1" }))
    );
    assert_eq!(to_json(PaymentRefunded::Busy), busy_answer());
}

#[test]
fn restock_item() {
    let to_json = |restocked| restocked_to_json(1, -3, restocked, &PLAIN);
    let (stock, inventory) = (7, 4);
    assert_eq!(
        to_json(Restocked::Done {
            stock,
            inventory,
            replayed: true
        }),
        json!({
            "success": true,
            "item_id": 1,
            "delta": -3,
            "stock": 7,
            "remaining_inventory": 4,
            "replayed": true,
        })
    );
    assert_eq!(
        to_json(Restocked::KeyReused),
        refused(Reason::IdempotencyKeyReused, json!({ "item_id": 1 }))
    );
    let about = json!({ "item_id": 1, "remaining_inventory": 4 });
    assert_eq!(
        to_json(Restocked::NotEnoughFree { inventory }),
        refused(Reason::NotEnoughFree, about)
    );
    assert_eq!(
        to_json(Restocked::NotFound),
        refused(Reason::ItemNotFound, json!({ "item_id": 1 }))
    );
    assert_eq!(to_json(Restocked::Busy), busy_answer());
}

#[test]
fn pause_item_and_resume_item() {
    let to_json = |paused| paused_to_json(1, paused, &PLAIN);
    for paused in [true, false] {
        assert_eq!(
            to_json(Paused::Done { paused }),
            json!({ "success": true, "item_id": 1, "paused": paused })
        );
    }
    assert_eq!(
        to_json(Paused::NotFound),
        refused(Reason::ItemNotFound, json!({ "item_id": 1 }))
    );
    assert_eq!(to_json(Paused::Busy), busy_answer());
}

#[test]
fn reconcile_stale_reservations() {
    let expired = Expired {
        orders: 3,
        units: 4,
        skipped: 1,
        more: true,
    };
    let payment_checks = 2;
    assert_eq!(
        run_to_json(
            Some(ExpiryRun {
                expired,
                payment_checks
            }),
            &PLAIN
        ),
        json!({
            "success": true,
            "expired": 3,
            "restored": 4,
            "skipped": 1,
            "payment_checks": 2,
            "more": true,
        })
    );
    assert_eq!(run_to_json(None, &PLAIN), busy_answer());
}

#[test]
fn a_look_up_that_finds_something_or_nothing() {
    let found = |text| found_to_json(text, Reason::UserNotFound, json!({ "user_id": "ann" }));
    assert_eq!(
        found(Some(r#"{"user_id": "ann", "orders": []}"#)).unwrap(),
        json!({ "success": true, "user_id": "ann", "orders": [] })
    );
    assert_eq!(
        found(None).unwrap(),
        refused(Reason::UserNotFound, json!({ "user_id": "ann" }))
    );
    assert!(found(Some("{")).is_err());
}
