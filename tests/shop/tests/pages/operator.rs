//! What operators see and do.

use std::time::Duration;

use shop::stage::session_of;
use tokio::time::sleep;

use crate::browser::Browser;

#[tokio::test]
async fn a_wrong_key_opens_nothing() {
    let browser = Browser::at_the_shop(1).await;
    browser.go("/operator").await;
    browser.send_key("guess").await;
    browser.until_text("#message", "That is not the key.").await;
    assert!(
        !browser
            .find("#shop")
            .await
            .is_displayed()
            .await
            .expect("a state")
    );
    browser.picture("wrong-key").await;
    browser.close().await;
}

#[tokio::test]
async fn a_restock_shows_on_the_shop_page() {
    let browser = Browser::at_the_shop(1).await;
    browser.click(&browser.of_item(".buy")).await;
    browser.until_text("#message", "Paid").await;
    browser
        .until_text(&browser.of_item(".stock"), "Sold out")
        .await;
    browser.log_in_as_operator().await;
    browser
        .until_text(&browser.of_item(".confirmed"), "1")
        .await;
    browser.find(&browser.of_item(".restock")).await;
    let twice = "const button = document.querySelector('.restock'); button.click(); button.click()";
    browser.script(twice).await;
    browser.until_text("#message", "Done: 10 free of 11.").await;
    browser
        .until_text(&browser.of_item(".inventory"), "10")
        .await;
    browser.until_text("#refusals", "reserved").await;
    browser.picture("operator").await;
    browser.go("/").await;
    browser
        .until_text(&browser.of_item(".stock"), "10 of 11 left")
        .await;
    browser.close().await;
}

#[tokio::test]
async fn a_paused_sale_says_so_and_is_resumed() {
    let browser = Browser::at_the_shop(1).await;
    browser.log_in_as_operator().await;
    browser.click(&browser.of_item(".pause")).await;
    browser.until_text("#message", "Paused.").await;
    browser
        .until_text(&browser.of_item(".pause"), "Resume")
        .await;
    browser.go("/").await;
    browser
        .until_text(&browser.of_item(".countdown"), "Paused")
        .await;
    browser.picture("paused").await;
    browser.log_in_again().await;
    browser.click(&browser.of_item(".pause")).await;
    browser.until_text("#message", "Resumed.").await;
    browser.close().await;
}

#[tokio::test]
async fn refunds_and_payments_that_wait_are_listed() {
    let settings = vec![("RESOLVE_EVERY_MS", "3600000".to_owned())];
    let setup = shop::stage::Setup {
        settings,
        ..shop::stage::Setup::default()
    };
    let browser = Browser::with(3, "NULL", setup).await;
    for user in ["alice", "bob"] {
        let request = reqwest::Client::new()
            .post(browser.stage.url(&format!("/purchase/{}", browser.item_id)));
        request
            .header("cookie", session_of(user))
            .send()
            .await
            .expect("an answer");
    }
    let owner = browser.stage.database.owner().await;
    owner
        .batch_execute(
            "SELECT flashsale.refund_order(1); \
             SELECT flashsale.purchase_item(1, 'carol'), flashsale.begin_payment(3, '1 ms')",
        )
        .await
        .expect("things to do");
    browser.log_in_as_operator().await;
    browser.until_text("#refunds-due", "1").await;
    browser.until_text("#refunds", "order refunded").await;
    browser.until_text("#payment-checks", "1").await;
    browser.until_text("#checks", "carol").await;
    browser.picture("to-do").await;
    // What is broken is said loudly.
    owner
        .batch_execute("UPDATE flashsale.stock_movements SET delta = delta + 1")
        .await
        .expect("a break");
    browser
        .until_text("#audit.alarm[role=alert]", "movements_add_up_to_stock")
        .await;
    browser.picture("alarm").await;
    browser.close().await;
}

#[tokio::test]
async fn the_rate_is_of_a_second_also_after_a_lost_connection() {
    let mut browser = Browser::at_the_shop(100).await;
    browser.log_in_as_operator().await;
    browser
        .script(
            "const rate = document.querySelector('#rate'); window.highest = 0; \
             new MutationObserver(() => { window.highest = Math.max(window.highest, rate.textContent); }) \
                 .observe(rate, { childList: true })",
        )
        .await;
    browser.stage.apps[0].kill();
    let owner = browser.stage.database.owner().await;
    let crowd = "SELECT flashsale.purchase_item(1, gen_random_uuid()) FROM generate_series(1, 90)";
    owner.batch_execute(crowd).await.expect("a crowd");
    sleep(Duration::from_secs(3)).await;
    browser.stage.apps[0].start_again();
    browser
        .until_text(&browser.of_item(".reserved"), "90")
        .await;
    let rate = browser.script("return window.highest").await;
    let rate = rate.as_f64().expect("a number");
    assert!(rate < 60.0, "90 in three seconds are not {rate} a second");
    browser.close().await;
}

#[tokio::test]
async fn a_sale_paused_before_it_starts_is_resumed_before_it_starts() {
    let browser = Browser::with(
        1,
        "now() + interval '1 hour'",
        shop::stage::Setup::default(),
    )
    .await;
    browser.log_in_as_operator().await;
    browser.click(&browser.of_item(".pause")).await;
    browser
        .until_text(&browser.of_item(".state"), "not started, paused")
        .await;
    browser
        .until_text(&browser.of_item(".pause"), "Resume")
        .await;
    browser.click(&browser.of_item(".pause")).await;
    browser.until_text("#message", "Resumed.").await;
    browser
        .until_text(&browser.of_item(".pause"), "Pause")
        .await;
    let paused: bool = browser
        .stage
        .database
        .value("SELECT paused FROM flashsale.items", &[])
        .await;
    assert!(!paused);
    browser.close().await;
}
