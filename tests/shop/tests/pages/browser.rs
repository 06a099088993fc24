//! Chromium without a screen, driven through chromedriver, at a shop of its own.

use std::fs;
use std::net::TcpStream;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use fantoccini::elements::Element;
use fantoccini::{Client, ClientBuilder, Locator};
use hyper_util::client::legacy::connect::HttpConnector;
use serde_json::{Value, json};
use shop::programs::free_address;
use shop::stage::{OPERATOR_KEY, Setup, Stage};
use tokio::time::{Instant, sleep};

const PATIENCE: Duration = Duration::from_secs(60);

pub struct Browser {
    pub page: Client,
    pub stage: Stage,
    pub item_id: i64,
    driver: Child,
}

impl Browser {
    /// At the shop page of a shop with one item, in a window of a common size.
    pub async fn at_the_shop(units: i64) -> Self {
        Self::with(units, "NULL", Setup::default()).await
    }

    /// `starts_at` is an expression of SQL.
    pub async fn with(units: i64, starts_at: &str, setup: Setup) -> Self {
        let stage = Stage::open(Setup {
            own_database: true,
            ..setup
        })
        .await;
        let create = format!(
            "SELECT flashsale.create_item($1, 'Console', 49900, 'EUR', 2, starts_at => {starts_at})"
        );
        let item_id = stage.database.value(&create, &[&units]).await;
        let (driver, page) = open_window().await;
        let browser = Self {
            page,
            stage,
            item_id,
            driver,
        };
        browser.go("/").await;
        browser
    }

    pub async fn go(&self, path: &str) {
        self.page.goto(&self.stage.url(path)).await.expect("a page");
    }

    /// With the session that is there.
    pub async fn log_in_again(&self) {
        self.go("/operator").await;
        self.until_text("#audit", "All invariants hold.").await;
    }

    pub async fn log_in_as_operator(&self) {
        self.go("/operator").await;
        self.send_key(OPERATOR_KEY).await;
        self.until_text("#audit", "All invariants hold.").await;
    }

    /// Into the form that is shown once the page knows that there is no session.
    pub async fn send_key(&self, key: &str) {
        let field = self.find("#operator-key").await;
        self.until("the form is shown", async || {
            field.is_displayed().await.unwrap_or(false)
        })
        .await;
        field.send_keys(key).await.expect("typed");
        self.click("#login-form button").await;
    }

    /// The first such element, once it is there.
    pub async fn find(&self, css: &str) -> Element {
        let wait = self.page.wait().at_most(PATIENCE);
        wait.for_element(Locator::Css(css))
            .await
            .unwrap_or_else(|error| panic!("{css}: {error}"))
    }

    /// Clicks it as soon as it can be clicked.
    pub async fn click(&self, css: &str) {
        let element = self.find(css).await;
        self.until(&format!("{css} can be clicked"), async || {
            element.is_enabled().await.unwrap_or(false)
        })
        .await;
        element
            .click()
            .await
            .unwrap_or_else(|error| panic!("{css}: {error}"));
    }

    /// A part of the one item's card.
    pub fn of_item(&self, css: &str) -> String {
        format!("#items [data-item=\"{}\"] {css}", self.item_id)
    }

    pub async fn text(&self, css: &str) -> String {
        self.find(css).await.text().await.unwrap_or_default()
    }

    pub async fn until_text(&self, css: &str, expected: &str) {
        let what = format!("{css} says \"{expected}\"");
        self.until(&what, async || self.text(css).await.contains(expected))
            .await;
    }

    pub async fn until(&self, what: &str, holds: impl AsyncFn() -> bool) {
        let deadline = Instant::now() + PATIENCE;
        while !holds().await {
            if Instant::now() > deadline {
                self.picture("failed").await;
                panic!("never: {what}; {}", self.stage.apps[0].said());
            }
            sleep(Duration::from_millis(50)).await;
        }
    }

    pub async fn script(&self, script: &str) -> Value {
        self.page
            .execute(script, Vec::new())
            .await
            .expect("a script")
    }

    /// Saves what is seen as target/screenshots/NAME.png, and returns its size in bytes.
    pub async fn picture(&self, name: &str) -> usize {
        let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../target/screenshots");
        fs::create_dir_all(&folder).expect("a folder");
        let picture = self.page.screenshot().await.expect("a picture");
        fs::write(folder.join(format!("{name}.png")), &picture).expect("a file");
        picture.len()
    }

    pub async fn close(mut self) {
        self.page.clone().close().await.ok();
        self.end_driver();
    }

    fn end_driver(&mut self) {
        self.driver.kill().ok();
        self.driver.wait().ok();
    }
}

impl Drop for Browser {
    fn drop(&mut self) {
        self.end_driver();
    }
}

async fn open_window() -> (Child, Client) {
    let address = free_address();
    let driver = Command::new("chromedriver")
        .arg(format!("--port={}", address.port()))
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .expect("chromedriver, which `scripts/setup shop` installs");
    let deadline = Instant::now() + PATIENCE;
    while TcpStream::connect(address).is_err() {
        assert!(Instant::now() < deadline, "chromedriver does not listen");
        sleep(Duration::from_millis(20)).await;
    }
    let arguments = [
        "--headless=new",
        "--no-sandbox",
        "--disable-gpu",
        "--disable-dev-shm-usage",
        "--force-device-scale-factor=1",
        "--window-size=900,1000",
    ];
    let options = json!({"args": arguments});
    let capabilities = json!({"goog:chromeOptions": options});
    let capabilities = capabilities.as_object().expect("made as an object").clone();
    let mut builder = ClientBuilder::new(HttpConnector::new());
    let connecting = builder
        .capabilities(capabilities)
        .connect(&format!("http://{address}"))
        .await;
    (
        driver,
        connecting.expect("chromium, which `scripts/setup shop` installs"),
    )
}
