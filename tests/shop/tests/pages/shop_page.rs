//! What buyers see and do.

use std::time::Duration;

use fantoccini::Locator;
use fantoccini::key::Key;
use shop::stage::{Setup, session_of};
use tokio::time::sleep;

use crate::browser::Browser;

/// Somebody else buys, over HTTP.
async fn another_buys(browser: &Browser, user: &str) {
    let request =
        reqwest::Client::new().post(browser.stage.url(&format!("/purchase/{}", browser.item_id)));
    let answer = request
        .header("cookie", session_of(user))
        .send()
        .await
        .expect("an answer");
    assert_eq!(answer.status(), 200);
}

#[tokio::test]
async fn a_click_buys_and_the_order_is_paid() {
    let browser = Browser::at_the_shop(3).await;
    browser
        .until_text(&browser.of_item(".stock"), "3 of 3 left")
        .await;
    browser
        .until_text(&browser.of_item(".price"), "499.00")
        .await;
    browser.click(&browser.of_item(".buy")).await;
    browser.until_text("#message", "Paid. It is yours.").await;
    browser
        .until_text("#orders .state", "Paid. It is yours.")
        .await;
    browser
        .until_text(&browser.of_item(".stock"), "2 of 3 left")
        .await;
    let focused = browser.script("return document.activeElement.id").await;
    assert_eq!(focused, "message", "a screen reader is led to the result");
    browser.picture("bought").await;
    // The order is still there after a reload.
    browser.go("/").await;
    browser.until_text("#orders .title", "1 × Console").await;
    browser.close().await;
}

#[tokio::test]
async fn stock_goes_down_live_and_a_late_click_is_told_sold_out() {
    let browser = Browser::at_the_shop(2).await;
    browser
        .until_text(&browser.of_item(".stock"), "2 of 2 left")
        .await;
    another_buys(&browser, "alice").await;
    browser
        .until_text(&browser.of_item(".stock"), "1 of 2 left")
        .await;
    another_buys(&browser, "bob").await;
    browser
        .until_text(&browser.of_item(".stock"), "Sold out")
        .await;
    browser.click(&browser.of_item(".buy")).await;
    browser.until_text("#message", "Sold out").await;
    browser.picture("sold-out").await;
    browser.close().await;
}

#[tokio::test]
async fn a_declined_card_is_said_in_plain_words_and_the_next_works() {
    let browser = Browser::at_the_shop(1).await;
    browser
        .find("#payment-method")
        .await
        .select_by_value("pm_card_chargeDeclined")
        .await
        .expect("an option");
    browser.click(&browser.of_item(".buy")).await;
    browser
        .until_text("#message", "Your card was declined. You were not charged.")
        .await;
    browser
        .until_text("#orders .state", "You were not charged")
        .await;
    browser.picture("declined").await;
    browser
        .find("#payment-method")
        .await
        .select_by_value("pm_card_visa")
        .await
        .expect("an option");
    browser.click(&browser.of_item(".buy")).await;
    browser.until_text("#message", "Paid. It is yours.").await;
    browser.log_in_as_operator().await;
    browser.until_text("#refusals", "card declined").await;
    browser.close().await;
}

#[tokio::test]
async fn the_limit_is_said_in_plain_words() {
    let browser = Browser::at_the_shop(5).await;
    for _ in 0..2 {
        browser.click(&browser.of_item(".buy")).await;
        browser.until_text("#message", "Paid").await;
    }
    browser.click(&browser.of_item(".buy")).await;
    browser.until_text("#message", "the limit of 2").await;
    browser.close().await;
}

#[tokio::test]
async fn a_countdown_ends_in_a_sale() {
    let browser = Browser::with(1, "now() + interval '1 hour'", Setup::default()).await;
    let database = browser.stage.database.owner().await;
    let starts_in = async |wait: &str| {
        let starts_at = format!("clock_timestamp() + interval '{wait}'");
        let sql = format!("UPDATE flashsale.items SET starts_at = {starts_at}");
        database.execute(&sql, &[]).await.expect("a start");
    };
    starts_in("59 s").await;
    browser
        .until_text(&browser.of_item(".countdown"), "Starts in 00:")
        .await;
    let buy = browser.find(&browser.of_item(".buy")).await;
    assert!(
        !buy.is_enabled().await.expect("a state"),
        "not before it starts"
    );
    browser.picture("countdown").await;
    starts_in("3 s").await;
    browser.click(&browser.of_item(".buy")).await;
    browser.until_text("#message", "Paid. It is yours.").await;
    browser.close().await;
}

#[tokio::test]
async fn an_unknown_outcome_is_shown_until_it_is_known() {
    let faults = [("GATEWAY_TIMEOUTS", "1"), ("GATEWAY_HOLD_MS", "600000")]
        .map(|(name, value)| (name, value.to_owned()));
    let settings = vec![
        ("GATEWAY_TIMEOUT_MS", "300".to_owned()),
        ("PAYMENT_WINDOW_S", "600".to_owned()),
    ];
    let browser = Browser::with(
        1,
        "NULL",
        Setup {
            faults: faults.into(),
            settings,
            ..Setup::default()
        },
    )
    .await;
    browser.click(&browser.of_item(".buy")).await;
    browser
        .until_text("#message", "Your payment is being checked.")
        .await;
    browser
        .until_text("#orders .state", "Your payment is being checked.")
        .await;
    browser.picture("checking").await;
    let owner = browser.stage.database.owner().await;
    owner
        .batch_execute("SELECT flashsale.confirm_order(1, 'charge 1', 49900, 'EUR')")
        .await
        .expect("news of the charge");
    browser
        .until_text("#message", "Order 1: Paid. It is yours.")
        .await;
    browser.close().await;
}

#[tokio::test]
async fn a_reserved_order_is_held_and_can_be_cancelled() {
    let browser = Browser::at_the_shop(1).await;
    let user = browser
        .page
        .execute_async(
            "const [done] = arguments; \
             fetch('/session', { method: 'POST' }).then((answer) => answer.json()).then(({ userId }) => done(userId))",
            Vec::new(),
        )
        .await
        .expect("a session");
    let reserve = "SELECT flashsale.purchase_item(1, $1::text) ->> 'status'";
    let status: String = browser
        .stage
        .database
        .value(reserve, &[&user.as_str().expect("a name")])
        .await;
    assert_eq!(status, "reserved");
    browser.go("/").await;
    browser
        .until_text("#orders .state", "Held for you until")
        .await;
    browser.click("#orders .cancel").await;
    browser.until_text("#orders .state", "Cancelled.").await;
    browser.until_text("#message", "Cancelled.").await;
    // The list may show it before the answer to the click does.
    browser
        .until(
            "the message has the focus, as the button that was pressed is gone",
            async || browser.script("return document.activeElement.id").await == "message",
        )
        .await;
    browser
        .until_text(&browser.of_item(".stock"), "1 of 1 left")
        .await;
    browser.close().await;
}

#[tokio::test]
async fn an_error_of_the_shop_is_not_called_a_lost_connection() {
    let browser = Browser::at_the_shop(1).await;
    let owner = browser.stage.database.owner().await;
    owner
        .batch_execute(
            "ALTER TABLE flashsale.orders ADD CONSTRAINT no_more CHECK (false) NOT VALID",
        )
        .await
        .expect("a fault");
    browser.click(&browser.of_item(".buy")).await;
    browser
        .until_text("#message", "Something went wrong on our side. Trying again")
        .await;
    owner
        .batch_execute("ALTER TABLE flashsale.orders DROP CONSTRAINT no_more")
        .await
        .expect("no fault");
    browser.until_text("#message", "Paid. It is yours.").await;
    browser.close().await;
}

#[tokio::test]
async fn a_buyer_who_moved_on_while_it_tries_again_keeps_the_focus() {
    let mut browser = Browser::at_the_shop(1).await;
    browser
        .until_text(&browser.of_item(".stock"), "1 of 1 left")
        .await;
    browser.stage.apps[0].kill();
    browser.click(&browser.of_item(".buy")).await;
    browser.until_text("#message", "Trying again").await;
    browser
        .script("document.querySelector('#payment-method').focus()")
        .await;
    browser.stage.apps[0].start_again();
    browser.until_text("#message", "Paid. It is yours.").await;
    let focused = browser.script("return document.activeElement.id").await;
    assert_eq!(focused, "payment-method");
    browser.close().await;
}

#[tokio::test]
async fn a_shop_that_restarts_is_waited_for() {
    let mut browser = Browser::at_the_shop(1).await;
    browser
        .until_text(&browser.of_item(".stock"), "1 of 1 left")
        .await;
    browser.stage.apps[0].kill();
    browser.until_text("#connection", "Connection lost").await;
    browser.click(&browser.of_item(".buy")).await;
    browser.until_text("#message", "Trying again").await;
    browser.picture("restarting").await;
    browser.stage.apps[0].start_again();
    browser.until_text("#message", "Paid. It is yours.").await;
    browser
        .until("the connection is back", async || {
            browser
                .script("return document.querySelector('#connection').textContent")
                .await
                == ""
        })
        .await;
    browser.close().await;
}

#[tokio::test]
async fn the_keyboard_is_enough() {
    let browser = Browser::at_the_shop(1).await;
    browser
        .until_text(&browser.of_item(".stock"), "1 of 1 left")
        .await;
    let body = browser.find("body").await;
    let mut pressed = 0;
    while browser
        .script("return document.activeElement.className")
        .await
        != "buy"
    {
        pressed += 1;
        assert!(pressed < 100, "Tab never leads to Buy");
        let active = browser
            .page
            .active_element()
            .await
            .unwrap_or_else(|_| body.clone());
        active
            .send_keys(&Key::Tab.to_string())
            .await
            .expect("a key");
        sleep(Duration::from_millis(30)).await;
    }
    let outline = browser
        .script("return getComputedStyle(document.activeElement).outlineStyle")
        .await;
    assert_eq!(outline, "solid", "one sees where one is");
    let active = browser.page.active_element().await.expect("Buy");
    active
        .send_keys(&Key::Enter.to_string())
        .await
        .expect("a key");
    browser.until_text("#message", "Paid. It is yours.").await;
    browser.close().await;
}

#[tokio::test]
async fn it_fits_a_small_phone_and_has_names_for_everything() {
    let browser = Browser::at_the_shop(1).await;
    browser
        .page
        .set_window_size(320, 640)
        .await
        .expect("a small window");
    browser.click(&browser.of_item(".buy")).await;
    browser.until_text("#message", "Paid").await;
    fits(&browser).await;
    browser.picture("phone").await;
    let nameless = "return [...document.querySelectorAll('button, select, input')].filter((element) => \
        !element.labels?.length && !element.textContent.trim() && !element.ariaLabel).length";
    assert_eq!(browser.script(nameless).await, 0);
    let headings = browser
        .page
        .find_all(Locator::Css("h1"))
        .await
        .expect("headings")
        .len();
    assert_eq!(
        (
            headings,
            browser.script("return document.documentElement.lang").await
        ),
        (1, "en".into())
    );
    browser.log_in_as_operator().await;
    browser.find(&browser.of_item(".chart")).await;
    fits(&browser).await;
    browser.picture("operator-phone").await;
    browser.close().await;
}

/// Nothing has to be scrolled sideways.
async fn fits(browser: &Browser) {
    let surplus = browser
        .script(
            "return document.documentElement.scrollWidth - document.documentElement.clientWidth",
        )
        .await;
    assert_eq!(surplus, 0);
}
