//! Events that the gateway sends by itself, signed, in any order and any number of times.

use axum::Json;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use hmac::Mac;
use serde::Deserialize;
use serde_json::{Value, json};

use super::extract::Raw;
use crate::Shop;
use crate::failure::Failure;
use crate::payment::hear;
use crate::secret::{mac, now_s};
use crate::stripe::Intent;

/// Older events may be replayed by an attacker.
const LONGEST_AGE_S: u64 = 300;

#[derive(Deserialize)]
struct Event {
    r#type: String,
    data: Data,
}

#[derive(Deserialize)]
struct Data {
    object: Value,
}

/// Records charges that went through. Everything else the app finds out by itself.
///
/// After any status but 200 the gateway sends the event again, so a charge that cannot be recorded
/// now is not forgotten.
pub async fn payment(
    State(shop): State<Shop>,
    headers: HeaderMap,
    Raw(body): Raw,
) -> Result<Json<Value>, Failure> {
    let signature = headers
        .get("stripe-signature")
        .and_then(|value| value.to_str().ok());
    if !signature
        .is_some_and(|signature| is_signed(signature, &body, &shop.webhook_secret, now_s()))
    {
        return Err(Failure::new(
            StatusCode::BAD_REQUEST,
            "bad_signature",
            "The signature is not right.",
        ));
    }
    let unreadable = |error| Failure::bad_request(format!("The event is not right: {error}."));
    let event: Event = serde_json::from_slice(&body).map_err(unreadable)?;
    metrics::counter!("checkout_webhooks_total").increment(1);
    if event.r#type == "payment_intent.succeeded" {
        let intent: Intent = serde_json::from_value(event.data.object).map_err(unreadable)?;
        hear(&shop, &intent).await?;
    }
    Ok(Json(json!({"success": true})))
}

/// Whether `t=…,v1=…[,v1=…]` is the signature of this body, and not old.
fn is_signed(header: &str, body: &[u8], secret: &str, now_s: u64) -> bool {
    let fields: Vec<_> = header
        .split(',')
        .filter_map(|field| field.split_once('='))
        .collect();
    let Some((_, time)) = fields.iter().find(|(name, _)| *name == "t") else {
        return false;
    };
    if !time
        .parse()
        .is_ok_and(|time: u64| now_s.abs_diff(time) <= LONGEST_AGE_S)
    {
        return false;
    }
    let mut mac = mac(secret);
    mac.update(time.as_bytes());
    mac.update(b".");
    mac.update(body);
    let versions = fields.iter().filter(|(name, _)| *name == "v1");
    // verify_slice takes the same time whatever the bytes.
    versions
        .filter_map(|(_, hex)| hex::decode(hex).ok())
        .any(|bytes| mac.clone().verify_slice(&bytes).is_ok())
}

#[cfg(test)]
mod tests {
    use super::is_signed;

    // printf '1000.{}' | openssl dgst -sha256 -hmac secret
    const HEX: &str = "026360fb6284f077f1148b1ae7c62679730497810a6a0321574de01e8b009e7a";

    #[test]
    fn a_signature_holds_for_its_time_and_body() {
        let header = format!("t=1000,v1={HEX}");
        assert!(is_signed(&header, b"{}", "secret", 1000));
        assert!(is_signed(
            &format!("t=1000,v1=00,v1={HEX},v0=11"),
            b"{}",
            "secret",
            1300
        ));
        assert!(!is_signed(&header, b"{}", "secret", 1301), "too old");
        assert!(!is_signed(&header, b"{ }", "secret", 1000), "another body");
        assert!(!is_signed(&header, b"{}", "other", 1000), "another secret");
        assert!(
            !is_signed(&format!("t=1001,v1={HEX}"), b"{}", "secret", 1001),
            "another time"
        );
    }

    #[test]
    fn nonsense_is_no_signature() {
        for header in [
            "",
            "t=,v1=",
            "v1=00",
            "t=1000",
            "t=1000,v1=zz",
            "t=-1,v1=00",
            "=,=,=",
        ] {
            assert!(!is_signed(header, b"{}", "secret", 1000), "{header}");
        }
    }
}
