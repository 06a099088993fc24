//! Crowds of real clients: how an application talks to `flashsale`, short enough to copy.
//!
//! [`Pool::settle`] is the heart of it: call, and while the answer is retryable, wait and call
//! again.

mod answer;
mod backoff;
mod call;
mod connect;
mod crowd;
mod pool;
mod tally;
pub mod wire;

pub use answer::Answer;
pub use backoff::Backoff;
pub use call::Call;
pub use connect::{config_from_env, connect, explain};
pub use crowd::{Crowd, Done};
pub use pool::Pool;
pub use tally::Tally;
