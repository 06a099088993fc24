//! Requests and replies in the form in which they lie in shared memory. They own no heap memory.

use crate::error::Fault;
use crate::pg::clock;
use crate::pg::memory::plain;
use crate::pg::{guc, session};
use flashsale_core::cancel::{Cancel, Cancelled};
use flashsale_core::fit::Request;
use flashsale_core::limits::MAX_TEXT_BYTES;
use flashsale_core::order::Moved;
use flashsale_core::order_ref::RefCode;
use flashsale_core::outcome::Outcome;
use flashsale_core::time::Micros;
use pgrx::pg_sys::panic::ErrorReport;
use pgrx::pg_sys::{Oid, TransactionId};

/// A text of at most 255 bytes, stored inline.
#[derive(Clone, Copy)]
struct Text {
    len: u8,
    bytes: [u8; MAX_TEXT_BYTES],
}

const _: () = assert!(MAX_TEXT_BYTES <= u8::MAX as usize);

impl Text {
    const EMPTY: Self = Self {
        len: 0,
        bytes: [0; MAX_TEXT_BYTES],
    };

    fn set(&mut self, text: &str) {
        let len = text.floor_char_boundary(MAX_TEXT_BYTES);
        self.len = len as u8;
        self.bytes[..len].copy_from_slice(&text.as_bytes()[..len]);
    }

    fn get(&self) -> &str {
        std::str::from_utf8(&self.bytes[..usize::from(self.len)]).unwrap_or_default()
    }
}

/// What a caller can request.
#[derive(Clone, Copy)]
pub enum Call<'a> {
    Purchase(Request<'a>),
    Cancel(Cancel<'a>),
}

/// A request in the queue, with what the seller must know about its caller.
#[derive(Clone, Copy)]
pub struct QueuedRequest {
    is_cancel: bool,
    /// The id of the item to buy, or of the order to cancel.
    id: i64,
    /// The code of the order to cancel.
    code: Option<RefCode>,
    quantity: i64,
    default_ttl: Micros,
    user_id: Text,
    /// The idempotency key, or the reason for the cancel; empty for none.
    text: Text,
    session_user: Oid,
    /// The owner of the function that was called, which is the caller's current user, as the
    /// function is SECURITY DEFINER.
    pub owner: Oid,
    /// The caller's `synchronous_commit`.
    pub synchronous_commit: i32,
    /// When it was queued, by the monotonic clock.
    pub queued_at: Micros,
    /// The room in which its caller waits.
    pub room: u32,
}

plain!(struct Text { len, bytes });
plain!(struct QueuedRequest {
    is_cancel, id, code, quantity, default_ttl, user_id, text, session_user, owner, synchronous_commit,
    queued_at, room
});
plain!(
    enum Reply {
        Outcome(it),
        Cancelled(it),
        Error(it),
    }
);
plain!(struct QueuedReply { reply, transaction });
plain!(struct Error { sqlstate, parts });

impl QueuedRequest {
    /// The request for a call that this session makes now and whose reply it awaits in this room.
    pub fn new(call: &Call<'_>, room: u32) -> Self {
        let mut this = Self {
            is_cancel: matches!(call, Call::Cancel(_)),
            id: 0,
            code: None,
            quantity: 0,
            default_ttl: 0,
            user_id: Text::EMPTY,
            text: Text::EMPTY,
            session_user: Oid::INVALID,
            owner: session::current_user(),
            synchronous_commit: guc::synchronous_commit(),
            queued_at: clock::monotonic(),
            room,
        };
        let text = match *call {
            Call::Purchase(request) => {
                this.id = request.item_id;
                this.quantity = request.quantity;
                this.default_ttl = request.default_ttl;
                this.user_id.set(request.user_id);
                request.idempotency_key
            }
            Call::Cancel(cancel) => {
                this.id = cancel.order_id;
                this.code = cancel.code;
                this.session_user = cancel.by.into();
                cancel.reason
            }
        };
        this.text.set(text.unwrap_or_default());
        this
    }

    pub fn call(&self) -> Call<'_> {
        let text = Some(self.text.get()).filter(|text| !text.is_empty());
        if self.is_cancel {
            return Call::Cancel(Cancel {
                order_id: self.id,
                code: self.code,
                reason: text,
                by: self.session_user.to_u32(),
            });
        }
        Call::Purchase(Request {
            item_id: self.id,
            user_id: self.user_id.get(),
            quantity: self.quantity,
            idempotency_key: text,
            default_ttl: self.default_ttl,
        })
    }
}

/// The seller's reply to a caller.
#[derive(Clone, Copy)]
#[allow(clippy::large_enum_variant)] // nothing in shared memory can be boxed
pub enum Reply {
    Outcome(Outcome),
    Cancelled(Moved<Cancelled>),
    Error(Error),
}

impl Reply {
    pub const BUSY: Self = Self::Outcome(Outcome::Busy);

    /// Whether it reports a change that a commit made, now or before. A refusal does not: a crash
    /// or failover cannot undo it.
    pub fn is_promise(&self) -> bool {
        match self {
            Self::Outcome(outcome) => matches!(outcome, Outcome::Reserved { .. }),
            Self::Cancelled(cancelled) => matches!(cancelled, Moved::Done(_)),
            Self::Error(_) => false,
        }
    }

    /// Whether nothing was done because of a lock, so that the request can be tried again.
    pub fn is_busy(&self) -> bool {
        matches!(
            self,
            Self::Outcome(Outcome::Busy) | Self::Cancelled(Moved::Busy)
        )
    }
}

/// A reply in the queue, with the transaction on whose commit it depends; `None` if that wrote
/// nothing.
#[derive(Clone, Copy)]
pub struct QueuedReply {
    pub reply: Reply,
    pub transaction: Option<TransactionId>,
}

/// An error that a request caused in the seller, which its caller raises: message, detail and
/// hint, each truncated to 255 bytes.
#[derive(Clone, Copy)]
pub struct Error {
    pub sqlstate: i32,
    parts: [Text; 3],
}

impl Error {
    pub fn of(fault: Fault) -> Self {
        let part = |text: Option<&str>| {
            let mut part = Text::EMPTY;
            part.set(text.unwrap_or_default());
            part
        };
        let sqlstate = fault.sqlstate() as i32;
        let report = ErrorReport::from(fault);
        Self {
            sqlstate,
            parts: [
                part(Some(report.message())),
                part(report.detail()),
                part(report.hint()),
            ],
        }
    }

    /// The message, detail and hint.
    pub fn texts(&self) -> [&str; 3] {
        [
            self.parts[0].get(),
            self.parts[1].get(),
            self.parts[2].get(),
        ]
    }
}
