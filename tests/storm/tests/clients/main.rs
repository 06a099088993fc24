//! What only real clients can show: crowds, sessions, roles, dumps, crashes, a pooler.
//!
//! Needs a server: PGHOST, PGPORT and PGUSER (a superuser) in the environment, PG_BINDIR for the
//! tools. Every test makes its own database, or its own cluster, and leaves nothing behind.

mod backtrace;
mod batch;
mod bouncer;
mod cluster;
mod crash;
mod ddl;
mod demo;
mod drivers;
mod dump;
mod expired_holds;
mod failover;
mod gate;
mod group;
mod guard;
mod health;
mod hostile;
mod keys;
mod lifecycle;
mod limits;
mod locks;
mod mix;
mod node;
mod privileges;
mod reconciler;
mod references;
mod room;
mod shop;
mod sql;
mod storms;
mod strategy;
mod transactions;
mod upgrade;
mod visit;
mod watcher;
