//! What requests do to intents and refunds: decisions alone, without network or file.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use crate::book::{Book, Event, Fact, Intent, Refund, Status};

pub type Form = BTreeMap<String, String>;

/// What a request is answered, and what became true by it.
pub struct Outcome {
    pub status: u16,
    pub body: Value,
    pub facts: Vec<Fact>,
}

impl Outcome {
    fn refused(status: u16, kind: &str, code: &str, message: &str) -> Self {
        let body = json!({"error": {"type": kind, "code": code, "message": message}});
        Self {
            status,
            body,
            facts: Vec::new(),
        }
    }

    pub fn invalid(message: &str) -> Self {
        Self::refused(400, "invalid_request_error", "parameter_invalid", message)
    }

    fn missing(what: &str) -> Self {
        Self::refused(
            404,
            "invalid_request_error",
            "resource_missing",
            &format!("No such {what}."),
        )
    }

    pub fn unknown_url() -> Self {
        let message = "There is no such request here.";
        Self::refused(404, "invalid_request_error", "resource_missing", message)
    }

    pub fn about_key(status: u16, code: &str, message: &str) -> Self {
        Self::refused(status, "idempotency_error", code, message)
    }

    pub fn unauthorized() -> Self {
        Self::refused(
            401,
            "invalid_request_error",
            "api_key_invalid",
            "Invalid API key.",
        )
    }

    pub fn internal() -> Self {
        Self::refused(500, "api_error", "internal", "Something went wrong.")
    }

    fn unexpected_state(intent: &Intent) -> Self {
        let message = "The status of the payment intent does not allow this.";
        let mut outcome = Self::refused(
            400,
            "invalid_request_error",
            "payment_intent_unexpected_state",
            message,
        );
        outcome.body["error"]["payment_intent"] = json!(intent);
        outcome
    }

    fn of(intent: Intent, mut facts: Vec<Fact>) -> Self {
        let body = json!(intent);
        facts.push(Fact::Intent(intent));
        Self {
            status: 200,
            body,
            facts,
        }
    }
}

/// What a form asks for, if it is something.
fn price(form: &Form) -> Option<(i64, &String)> {
    let amount = form.get("amount")?.parse().ok()?;
    (amount >= 1).then_some((amount, form.get("currency")?))
}

fn no_price() -> Outcome {
    Outcome::invalid("amount must be a number of at least 1, and currency is needed.")
}

/// A refusal unless there is an amount of some currency.
pub fn refuse_amount(form: &Form) -> Option<Outcome> {
    price(form).is_none().then(no_price)
}

pub fn create(form: &Form) -> Outcome {
    let Some((amount, currency)) = price(form) else {
        return no_price();
    };
    let metadata = form.iter().filter_map(|(name, value)| {
        let name = name.strip_prefix("metadata[")?.strip_suffix(']')?;
        Some((name.to_owned(), value.clone()))
    });
    let id = new_id("pi");
    Outcome::of(
        Intent::new(id, amount, currency, metadata.collect()),
        Vec::new(),
    )
}

/// A refusal unless the card is one of those that there are.
pub fn refuse_unknown_card(form: &Form) -> Option<Outcome> {
    match form.get("payment_method").map(String::as_str) {
        Some("pm_card_visa" | "pm_card_chargeDeclined" | "pm_card_authenticationRequired") => None,
        _ => Some(Outcome::missing("payment method")),
    }
}

/// Charges the card, which is known, unless `declined` or one that never works.
pub fn confirm(book: &Book, id: &str, form: &Form, declined: bool) -> Outcome {
    let Some(intent) = book.intent(id) else {
        return Outcome::missing("payment intent");
    };
    if intent.status != Status::RequiresPaymentMethod {
        return Outcome::unexpected_state(intent);
    }
    let mut intent = intent.clone();
    match form.get("payment_method").map(String::as_str) {
        Some("pm_card_visa") if !declined => {
            intent.status = Status::Succeeded;
            intent.amount_received = intent.amount;
            intent.last_payment_error = None;
            let event = event("payment_intent.succeeded", &intent);
            Outcome::of(intent, vec![event])
        }
        Some("pm_card_authenticationRequired") => {
            intent.status = Status::RequiresAction;
            Outcome::of(intent, Vec::new())
        }
        _ => decline(intent),
    }
}

fn decline(mut intent: Intent) -> Outcome {
    let mut error = json!({"type": "card_error", "code": "card_declined", "decline_code": "generic_decline",
        "message": "Your card was declined."});
    intent.last_payment_error = Some(error.clone());
    error["payment_intent"] = json!(intent);
    let event = event("payment_intent.payment_failed", &intent);
    Outcome {
        status: 402,
        body: json!({ "error": error }),
        facts: vec![Fact::Intent(intent), event],
    }
}

pub fn cancel(book: &Book, id: &str) -> Outcome {
    let Some(intent) = book.intent(id) else {
        return Outcome::missing("payment intent");
    };
    if matches!(intent.status, Status::Succeeded | Status::Canceled) {
        return Outcome::unexpected_state(intent);
    }
    let mut intent = intent.clone();
    intent.status = Status::Canceled;
    let event = event("payment_intent.canceled", &intent);
    Outcome::of(intent, vec![event])
}

pub fn retrieve(book: &Book, id: &str) -> Outcome {
    match book.intent(id) {
        Some(intent) => Outcome {
            status: 200,
            body: json!(intent),
            facts: Vec::new(),
        },
        None => Outcome::missing("payment intent"),
    }
}

/// A refusal of a refund of less than the whole charge, which this gateway does not make.
pub fn refuse_part(form: &Form) -> Option<Outcome> {
    form.contains_key("amount")
        .then(|| Outcome::invalid("Only whole charges are refunded here, without an amount."))
}

/// Gives a whole charge back.
pub fn refund(book: &Book, form: &Form) -> Outcome {
    let Some(intent) = form.get("payment_intent").and_then(|id| book.intent(id)) else {
        return Outcome::missing("payment intent");
    };
    if intent.status != Status::Succeeded {
        return Outcome::unexpected_state(intent);
    }
    if book
        .refunds()
        .any(|refund| refund.payment_intent == intent.id)
    {
        let message = "The charge has already been refunded.";
        return Outcome::refused(
            400,
            "invalid_request_error",
            "charge_already_refunded",
            message,
        );
    }
    let refund = Refund::new(new_id("re"), intent);
    let body = json!(refund);
    Outcome {
        status: 200,
        body,
        facts: vec![Fact::Refund(refund)],
    }
}

/// Unlike that of any other gateway, too.
fn new_id(kind: &str) -> String {
    format!("{kind}_{:016x}", rand::random::<u64>())
}

fn event(kind: &str, intent: &Intent) -> Fact {
    let id = new_id("evt");
    let about = intent
        .order_id()
        .map_or_else(|| intent.id.clone(), |order_id| order_id.to_string());
    let body = json!({"id": id, "object": "event", "type": kind, "data": {"object": intent}});
    Fact::Event(Event {
        id,
        name: format!("{kind} {about}"),
        body: body.to_string(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn form(pairs: &[(&str, &str)]) -> Form {
        pairs
            .iter()
            .map(|(name, value)| (name.to_string(), value.to_string()))
            .collect()
    }

    fn with_intent() -> (Book, String) {
        let mut book = Book::default();
        let outcome = create(&form(&[
            ("amount", "500"),
            ("currency", "EUR"),
            ("metadata[order_ref]", "7-3W5N2T8KQ0"),
        ]));
        assert_eq!(outcome.status, 200);
        book.write(outcome.facts).expect("no file, no error");
        let id = outcome.body["id"].as_str().expect("an id").to_owned();
        (book, id)
    }

    fn visa() -> Form {
        form(&[("payment_method", "pm_card_visa")])
    }

    #[test]
    fn a_confirmed_intent_is_charged_once_and_cannot_be_canceled() {
        let (mut book, id) = with_intent();
        let outcome = confirm(&book, &id, &visa(), false);
        assert_eq!(
            (outcome.status, outcome.body["amount_received"].as_i64()),
            (200, Some(500))
        );
        book.write(outcome.facts).expect("no file, no error");
        for outcome in [confirm(&book, &id, &visa(), false), cancel(&book, &id)] {
            assert_eq!(outcome.status, 400);
            assert_eq!(
                outcome.body["error"]["payment_intent"]["status"],
                "succeeded"
            );
            assert!(outcome.facts.is_empty());
        }
        assert_eq!(book.intent(&id).and_then(Intent::order_id), Some(7));
    }

    #[test]
    fn a_canceled_intent_is_never_charged() {
        let (mut book, id) = with_intent();
        book.write(cancel(&book, &id).facts)
            .expect("no file, no error");
        let outcome = confirm(&book, &id, &visa(), false);
        assert_eq!(
            outcome.body["error"]["payment_intent"]["status"],
            "canceled"
        );
        assert!(outcome.facts.is_empty());
    }

    #[test]
    fn a_declined_card_leaves_the_intent_open_and_says_why() {
        let (mut book, id) = with_intent();
        let outcome = confirm(&book, &id, &visa(), true);
        assert_eq!(
            (outcome.status, outcome.body["error"]["code"].as_str()),
            (402, Some("card_declined"))
        );
        book.write(outcome.facts).expect("no file, no error");
        let intent = book.intent(&id).expect("it stays");
        assert_eq!(
            (intent.status, intent.amount_received),
            (Status::RequiresPaymentMethod, 0)
        );
        assert!(intent.last_payment_error.is_some());
    }

    #[test]
    fn a_charge_is_refunded_once_and_whole() {
        let (mut book, id) = with_intent();
        let which = form(&[("payment_intent", &id)]);
        assert_eq!(refund(&book, &which).status, 400, "nothing was charged yet");
        book.write(confirm(&book, &id, &visa(), false).facts)
            .expect("no file, no error");
        let outcome = refund(&book, &which);
        assert_eq!(
            (outcome.status, outcome.body["amount"].as_i64()),
            (200, Some(500))
        );
        book.write(outcome.facts).expect("no file, no error");
        assert_eq!(
            refund(&book, &which).body["error"]["code"],
            "charge_already_refunded"
        );
    }

    #[test]
    fn a_part_of_a_charge_is_not_refunded() {
        assert!(refuse_part(&form(&[("payment_intent", "pi_1"), ("amount", "1")])).is_some());
        assert!(refuse_part(&form(&[("payment_intent", "pi_1")])).is_none());
    }
}
