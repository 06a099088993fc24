//! One shop for one test, and a caller who sees status, headers and body.

use std::time::Duration;

use reqwest::header::HeaderMap;
use reqwest::{Client, Method, Response, StatusCode};
use serde_json::{Value, json};
use shop::ledgers::Ledgers;
use shop::stage::{OPERATOR_KEY, Setup, Stage, session_of};
use tokio::time::{sleep, timeout};
use tokio_postgres::types::FromSqlOwned;

/// Many times what anything takes, also on a busy machine.
const PATIENCE: Duration = Duration::from_secs(60);

pub struct Shop {
    pub stage: Stage,
    pub item_id: i64,
    http: Client,
}

/// A stream of looks at the shop, as a page gets them.
pub struct Looks {
    response: Response,
    /// The beginning of the next event.
    unread: Vec<u8>,
}

#[derive(Debug)]
pub struct Answer {
    pub status: StatusCode,
    pub headers: HeaderMap,
    pub text: String,
}

/// What a caller sends along.
#[derive(Default)]
pub struct With<'a> {
    pub cookie: Option<String>,
    pub key: Option<&'a str>,
    pub body: Option<String>,
}

impl Answer {
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.text).unwrap_or_else(|error| panic!("{error}: {self:?}"))
    }

    /// Checks a failure's status and reason, and that it says something to people.
    #[track_caller]
    pub fn fails(&self, status: u16, reason: &str) -> Value {
        let body = self.json();
        assert_eq!(
            (self.status.as_u16(), body["reason"].as_str()),
            (status, Some(reason)),
            "{self:?}"
        );
        assert_eq!(body["success"], false);
        assert!(
            body["message"]
                .as_str()
                .is_some_and(|message| message.ends_with('.') || status == 400),
            "{self:?}"
        );
        body
    }

    /// The cookie that it sets, to be sent along.
    pub fn cookie(&self) -> String {
        let cookie = self.headers["set-cookie"].to_str().expect("a cookie");
        cookie.split(';').next().expect("its value").to_owned()
    }

    #[track_caller]
    pub fn is(&self, status: u16) -> Value {
        assert_eq!(self.status.as_u16(), status, "{self:?}");
        self.json()
    }
}

impl Looks {
    /// The next look that has the property.
    pub async fn until(&mut self, has_it: impl Fn(&Value) -> bool) -> Value {
        let found = async {
            loop {
                let look = self.next().await;
                if has_it(&look) {
                    return look;
                }
            }
        };
        timeout(PATIENCE, found).await.expect("a look in time")
    }

    async fn next(&mut self) -> Value {
        loop {
            if let Some(end) = self.unread.windows(2).position(|two| two == b"\n\n") {
                let event: Vec<u8> = self.unread.drain(..end + 2).collect();
                let event = String::from_utf8(event).expect("UTF-8");
                if let Some(data) = event.lines().find_map(|line| line.strip_prefix("data: ")) {
                    return serde_json::from_str(data).expect("a look");
                }
                continue; // a comment that keeps the connection alive
            }
            let more = self.response.chunk().await.expect("a part of the stream");
            self.unread.extend(more.expect("the stream goes on"));
        }
    }
}

impl Shop {
    /// With an item of that many units for 499.00 EUR.
    pub async fn open(units: i64) -> Self {
        Self::with(units, Setup::default()).await
    }

    pub async fn with(units: i64, setup: Setup) -> Self {
        // Resolvers would settle orders of other tests with the wrong gateway.
        let stage = Stage::open(Setup {
            own_database: true,
            ..setup
        })
        .await;
        let sql = "SELECT flashsale.create_item($1, 'Console', 49900, 'EUR')";
        let item_id = stage.database.value(sql, &[&units]).await;
        Self {
            stage,
            item_id,
            http: Client::new(),
        }
    }

    pub async fn call(&self, method: Method, path: &str, with: With<'_>) -> Answer {
        let mut request = self.http.request(method, self.stage.url(path));
        if let Some(cookie) = with.cookie {
            request = request.header("cookie", cookie);
        }
        if let Some(key) = with.key {
            request = request.header("idempotency-key", key);
        }
        if let Some(body) = with.body {
            request = request.body(body);
        }
        let response = request.send().await.expect("an answer");
        let (status, headers) = (response.status(), response.headers().clone());
        Answer {
            status,
            headers,
            text: response.text().await.expect("a body"),
        }
    }

    pub async fn get(&self, user: &str, path: &str) -> Answer {
        self.call(
            Method::GET,
            path,
            With {
                cookie: Some(session_of(user)),
                ..With::default()
            },
        )
        .await
    }

    pub async fn post(&self, user: &str, path: &str, body: &str) -> Answer {
        let with = With {
            cookie: Some(session_of(user)),
            body: Some(body.into()),
            key: None,
        };
        self.call(Method::POST, path, with).await
    }

    /// Buys one unit with a card that works.
    pub async fn buy(&self, user: &str, key: &str) -> Answer {
        self.buy_with(user, key, "{}").await
    }

    pub async fn buy_with(&self, user: &str, key: &str, body: &str) -> Answer {
        let with = With {
            cookie: Some(session_of(user)),
            key: Some(key),
            body: Some(body.into()),
        };
        self.call(Method::POST, &self.purchase_path(), with).await
    }

    /// An order of alice's with the key a, as an app leaves it that is killed after the first step.
    pub async fn reserve(&self) -> i64 {
        let sql = "SELECT (flashsale.purchase_item($1, 'alice'::text, 1, 'a', strategy => 'atomic') ->> 'order_id')::bigint";
        self.sql(sql, self.item_id).await
    }

    /// As the owner of the database.
    pub async fn sql<T: FromSqlOwned>(&self, sql: &str, id: i64) -> T {
        self.stage.database.value(sql, &[&id]).await
    }

    /// Waits until a query about the item, `$1`, returns true.
    pub async fn until(&self, query: &str) {
        let holds = async {
            while !self.sql::<bool>(query, self.item_id).await {
                sleep(Duration::from_millis(5)).await;
            }
        };
        let waited = timeout(PATIENCE, holds).await;
        waited.unwrap_or_else(|_| panic!("never: {query}"));
    }

    /// Waits until anybody who asks for this gets such an answer: the app looks by itself, now and then.
    pub async fn until_answered(&self, path: &str, so: impl Fn(&Answer) -> bool) -> Answer {
        let answered = async {
            loop {
                let answer = self.call(Method::GET, path, With::default()).await;
                if so(&answer) {
                    return answer;
                }
                sleep(Duration::from_millis(20)).await;
            }
        };
        let answer = timeout(PATIENCE, answered).await;
        answer.unwrap_or_else(|_| panic!("no such answer: {path}"))
    }

    /// The app has a second for its look at the database, which can be too little.
    pub async fn until_well(&self) {
        self.until_answered("/healthz", |answer| answer.status == StatusCode::OK)
            .await;
    }

    pub fn purchase_path(&self) -> String {
        format!("/purchase/{}", self.item_id)
    }

    /// With the session that the operator's key opens.
    pub async fn operate(&self, path: &str, body: &str) -> Answer {
        let login = json!({"key": OPERATOR_KEY}).to_string();
        let opened = self.post("alice", "/operator/session", &login).await;
        let with = With {
            cookie: Some(opened.cookie()),
            body: Some(body.into()),
            key: None,
        };
        self.call(Method::POST, path, with).await
    }

    /// What the operator page watches.
    pub async fn looks(&self) -> Looks {
        let login = json!({"key": OPERATOR_KEY}).to_string();
        let opened = self.post("alice", "/operator/session", &login).await;
        let request = self
            .http
            .get(self.stage.url("/operator/events"))
            .header("cookie", opened.cookie());
        Looks {
            response: request.send().await.expect("an answer"),
            unread: Vec::new(),
        }
    }

    /// Changes the item by SQL, `SET …`.
    pub async fn set(&self, change: &str) {
        let sql = format!(
            "UPDATE flashsale.items SET {change} WHERE item_id = {}",
            self.item_id
        );
        self.stage
            .database
            .owner()
            .await
            .batch_execute(&sql)
            .await
            .expect("a change");
    }

    /// The three ledgers, which must agree whatever the test did.
    pub async fn ledgers(&self) -> Ledgers {
        let ledgers = Ledgers::settled(&self.stage, &[self.item_id]).await;
        assert_eq!(ledgers.complaints(), Vec::<String>::new());
        ledgers
    }
}
