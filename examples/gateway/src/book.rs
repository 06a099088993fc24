//! The gateway's ledger: a file of JSON lines that survives the gateway.
//!
//! Each line is a step, a list of facts that become true together. It is written before the
//! answer leaves. Reading the steps in order gives the present state.

use std::collections::BTreeMap;
use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::path::Path;

use serde::{Deserialize, Serialize};
use serde_json::Value;

#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct Intent {
    pub id: String,
    object: String,
    pub amount: i64,
    pub amount_received: i64,
    pub currency: String,
    pub status: Status,
    pub metadata: BTreeMap<String, String>,
    pub last_payment_error: Option<Value>,
}

#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Status {
    RequiresPaymentMethod,
    RequiresAction,
    Succeeded,
    Canceled,
}

#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct Refund {
    pub id: String,
    object: String,
    pub payment_intent: String,
    pub amount: i64,
    pub status: String,
}

/// What a request was answered, to be repeated for its key.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct Answer {
    pub key: String,
    /// Path and form: the same key must come with the same.
    pub request: String,
    pub status: u16,
    pub body: Value,
}

/// A webhook.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct Event {
    pub id: String,
    /// What faults are drawn by.
    #[serde(default)]
    pub name: String,
    pub body: String,
}

#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Fact {
    /// How an intent stands now.
    Intent(Intent),
    Refund(Refund),
    Answer(Answer),
    Event(Event),
    /// The event with this id has arrived.
    Delivered(String),
}

#[derive(Default)]
pub struct Book {
    file: Option<File>,
    intents: BTreeMap<String, Intent>,
    refunds: BTreeMap<String, Refund>,
    answers: BTreeMap<String, Answer>,
    undelivered: BTreeMap<String, Event>,
}

impl Intent {
    pub fn new(
        id: String,
        amount: i64,
        currency: &str,
        metadata: BTreeMap<String, String>,
    ) -> Self {
        Self {
            id,
            object: "payment_intent".into(),
            amount,
            amount_received: 0,
            currency: currency.to_lowercase(),
            status: Status::RequiresPaymentMethod,
            metadata,
            last_payment_error: None,
        }
    }

    /// The number of the order that the intent is for, from the ref that the shop noted.
    pub fn order_id(&self) -> Option<i64> {
        id_of(self.metadata.get("order_ref")?)
    }
}

/// The order's number in its ref, such as 7 of `7-3W5N2T8KQ0`.
pub fn id_of(order_ref: &str) -> Option<i64> {
    order_ref.split_once('-')?.0.parse().ok()
}

impl Refund {
    pub fn new(id: String, intent: &Intent) -> Self {
        Self {
            id,
            object: "refund".into(),
            payment_intent: intent.id.clone(),
            amount: intent.amount_received,
            status: "succeeded".into(),
        }
    }
}

impl Book {
    /// Reads a book that another process may be writing.
    pub fn read(path: &Path) -> io::Result<Self> {
        let mut book = Self::default();
        for line in std::fs::read_to_string(path)?.split_inclusive('\n') {
            // A last line without its end was never answered.
            if line.ends_with('\n') {
                let facts: Vec<Fact> = serde_json::from_str(line)?;
                facts.into_iter().for_each(|fact| book.note(fact));
            }
        }
        Ok(book)
    }

    /// Opens a book to go on writing it; a new one if there is none.
    pub fn open(path: &Path) -> io::Result<Self> {
        let file = OpenOptions::new().append(true).create(true).open(path)?;
        let mut book = Self::read(path)?;
        let text = std::fs::read(path)?;
        let whole = text
            .iter()
            .rposition(|byte| *byte == b'\n')
            .map_or(0, |end| end + 1);
        file.set_len(whole as u64)?;
        book.file = Some(file);
        Ok(book)
    }

    /// Writes a step, in one piece, and makes it true.
    pub fn write(&mut self, facts: Vec<Fact>) -> io::Result<()> {
        if facts.is_empty() {
            return Ok(());
        }
        if let Some(file) = &mut self.file {
            let mut line = serde_json::to_string(&facts)?;
            line.push('\n');
            file.write_all(line.as_bytes())?;
        }
        facts.into_iter().for_each(|fact| self.note(fact));
        Ok(())
    }

    fn note(&mut self, fact: Fact) {
        match fact {
            Fact::Intent(intent) => drop(self.intents.insert(intent.id.clone(), intent)),
            Fact::Refund(refund) => drop(self.refunds.insert(refund.id.clone(), refund)),
            Fact::Answer(answer) => drop(self.answers.insert(answer.key.clone(), answer)),
            Fact::Event(event) => drop(self.undelivered.insert(event.id.clone(), event)),
            Fact::Delivered(id) => drop(self.undelivered.remove(&id)),
        }
    }

    pub fn intents(&self) -> impl Iterator<Item = &Intent> {
        self.intents.values()
    }

    pub fn intent(&self, id: &str) -> Option<&Intent> {
        self.intents.get(id)
    }

    pub fn refunds(&self) -> impl Iterator<Item = &Refund> {
        self.refunds.values()
    }

    pub fn answer(&self, key: &str) -> Option<&Answer> {
        self.answers.get(key)
    }

    pub fn undelivered(&self) -> impl Iterator<Item = &Event> {
        self.undelivered.values()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_book_is_read_again_without_its_torn_last_line() {
        let path = std::env::temp_dir().join(format!("book-{}", std::process::id()));
        std::fs::remove_file(&path).ok();
        let mut book = Book::open(&path).expect("a new book");
        let intent = Intent::new("pi_1".into(), 500, "EUR", BTreeMap::new());
        let event = Event {
            id: "evt_1".into(),
            name: "succeeded 7".into(),
            body: "{}".into(),
        };
        book.write(vec![Fact::Intent(intent), Fact::Event(event)])
            .expect("a line");
        let mut file = OpenOptions::new()
            .append(true)
            .open(&path)
            .expect("the book");
        file.write_all(b"[{\"delivered\":\"evt")
            .expect("half a line");

        let mut book = Book::open(&path).expect("the book again");
        assert_eq!((book.intents().count(), book.undelivered().count()), (1, 1));
        book.write(vec![Fact::Delivered("evt_1".into())])
            .expect("a line");
        let book = Book::read(&path).expect("the book from outside");
        assert_eq!((book.intents().count(), book.undelivered().count()), (1, 0));
        std::fs::remove_file(&path).expect("the book is there");
    }
}
