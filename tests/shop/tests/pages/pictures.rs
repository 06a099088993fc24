//! The pictures of the README: both pages in the midst of a sale. `make screenshots` saves them there.

use std::env;
use std::time::Duration;

use reqwest::Client;
use serde_json::json;
use shop::stage::{Setup, session_of};
use tokio::time::{interval, sleep};

use crate::browser::Browser;

/// Fewer than units, so that there is one for the browser.
const BUYERS: i64 = 400;
/// Buyers come one after the other, so that the chart has a slope.
const BETWEEN_BUYERS: Duration = Duration::from_millis(125);

#[tokio::test]
async fn both_pages_in_the_midst_of_a_sale() {
    let browser = Browser::with(BUYERS, "NULL", Setup::slow()).await;
    let headset = "SELECT flashsale.create_item(90, 'Headset', 7900, 'EUR', 1)";
    let headset: i64 = browser.stage.database.value(headset, &[]).await;
    let items = [browser.item_id, headset];
    let crowd = tokio::spawn(crowd(browser.stage.url(""), items));
    browser.log_in_as_operator().await;
    browser.until_text("#refusals", "card declined").await;
    for layer in [".confirmed", ".reserved"] {
        browser
            .until(&format!("{layer} has units"), async || {
                browser.text(&browser.of_item(layer)).await != "0"
            })
            .await;
    }
    sleep(chart_s()).await;
    take(&browser, 960, "sale-operator").await;
    browser.go("/").await;
    browser.click(&browser.of_item(".buy")).await;
    browser.until_text("#message", "Paid. It is yours.").await;
    browser
        .until_text("#orders .state", "Paid. It is yours.")
        .await;
    take(&browser, 640, "sale-shop").await;
    crowd.abort();
    browser.close().await;
}

/// For how long the chart grows before it is taken.
fn chart_s() -> Duration {
    let seconds = env::var("CHART_S").map_or(0, |text| text.parse().expect("seconds"));
    Duration::from_secs(seconds)
}

/// The whole page, in a window of this width, as a file of at most 200 kB.
async fn take(browser: &Browser, width: u32, name: &str) {
    browser
        .page
        .set_window_size(width, 700)
        .await
        .expect("a window");
    let surplus =
        "return document.documentElement.offsetHeight - window.innerHeight + window.outerHeight";
    let height = browser.script(surplus).await.as_f64().expect("a height");
    browser
        .page
        .set_window_size(width, height as u32)
        .await
        .expect("a window");
    let bytes = browser.picture(name).await;
    assert!(bytes <= 200_000, "{name} has {bytes} bytes");
}

/// One in five buyers wants the second item. Two in eleven only reserve, and one has a card that is declined.
async fn crowd(shop: String, items: [i64; 2]) {
    let http = Client::new();
    let mut clock = interval(BETWEEN_BUYERS);
    for n in 0..BUYERS {
        clock.tick().await;
        let (path, body) = match n % 11 {
            0 => (
                "purchase",
                json!({ "paymentMethod": "pm_card_chargeDeclined" }),
            ),
            3 | 8 => ("reserve", json!({})),
            _ => ("purchase", json!({})),
        };
        let item_id = items[usize::from(n % 5 == 0)];
        let request = http
            .post(format!("{shop}/{path}/{item_id}"))
            .header("cookie", session_of(&format!("buyer {n}")))
            .json(&body);
        tokio::spawn(request.send());
    }
}
