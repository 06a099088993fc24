//! What SQL sees: one thin function per SQL function, declared in `sql/`.

mod buyer;
mod operator;
