//! The decisions of flashsale: who gets what, what a move does to an order, what becomes of a
//! charge, which arguments make sense. They read no clock, lock nothing and know no PostgreSQL.

#![forbid(unsafe_code)]

pub mod argument;
pub mod cancel;
pub mod charge;
pub mod clicks;
pub mod fate;
pub mod fit;
pub mod gate;
pub mod item;
pub mod limits;
pub mod order;
pub mod outcome;
pub mod pace;
pub mod reason;
pub mod slots;
pub mod time;
