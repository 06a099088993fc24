//! Delivery of events, at least once: until the shop says it has them, and after a restart.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use hmac::{Hmac, Mac};
use sha2::Sha256;
use tokio::time::sleep;

use crate::book::{Event, Fact};
use crate::server::Gateway;

const FIRST_DELAY: Duration = Duration::from_millis(200);
const LONGEST_DELAY: Duration = Duration::from_secs(5);

/// Begins to deliver an event, as often as the faults say.
pub fn send(gateway: &Gateway, event: &Event) {
    for delay in gateway.faults().of_event(&event.name) {
        tokio::spawn(deliver(gateway.clone(), event.clone(), delay));
    }
}

async fn deliver(gateway: Gateway, event: Event, delay: Duration) {
    sleep(delay).await;
    let mut pause = FIRST_DELAY;
    // Each try goes to the next address: the one before may be down.
    for url in gateway.webhook_urls().iter().cycle() {
        if arrives(&gateway, url, &event).await {
            gateway.note(vec![Fact::Delivered(event.id)]);
            return;
        }
        sleep(pause).await;
        pause = (pause * 2).min(LONGEST_DELAY);
    }
}

async fn arrives(gateway: &Gateway, url: &str, event: &Event) -> bool {
    let signature = sign(gateway.webhook_secret(), &event.body, now_s());
    let request = gateway
        .http()
        .post(url)
        .header("Stripe-Signature", signature);
    let response = request.body(event.body.clone()).send().await;
    response.is_ok_and(|response| response.status().is_success())
}

/// Seconds since 1970.
pub fn now_s() -> u64 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0, |age| age.as_secs())
}

/// The signature header of an event, as of a time.
pub fn sign(secret: &str, body: &str, now_s: u64) -> String {
    let mut mac =
        Hmac::<Sha256>::new_from_slice(secret.as_bytes()).expect("HMAC takes keys of any length");
    mac.update(format!("{now_s}.{body}").as_bytes());
    format!("t={now_s},v1={}", hex::encode(mac.finalize().into_bytes()))
}

#[cfg(test)]
mod tests {
    #[test]
    fn a_signature_is_that_of_time_and_body() {
        // printf '1000.{}' | openssl dgst -sha256 -hmac secret
        let hex = "026360fb6284f077f1148b1ae7c62679730497810a6a0321574de01e8b009e7a";
        assert_eq!(
            super::sign("secret", "{}", 1000),
            format!("t=1000,v1={hex}")
        );
    }
}
