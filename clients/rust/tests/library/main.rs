//! The library against a real server, direct and through PgBouncer in transaction mode.
//!
//! Needs a server with the extension preloaded: PGHOST, PGPORT, PGUSER (a superuser) and PGDATABASE,
//! and its pooler: PGBOUNCER_HOST and PGBOUNCER_PORT. Each test sells items of its own.

mod calls;
mod gather;
mod outages;
mod shop;
