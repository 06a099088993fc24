//! Flash-sale inventory inside PostgreSQL: stock, orders and payments that cannot disagree.

// Hand-written unsafe code stands in `pg` alone. Each exception is allowed where it stands.
#![deny(unsafe_code)]

mod api;
mod attempt;
mod backoff;
mod database;
mod doors;
mod error;
mod gate;
mod group;
mod guard;
mod launcher;
#[allow(unsafe_code)]
mod pg;
mod reconciler;
mod sale;
mod settings;
mod stats;
mod store;
#[cfg(feature = "pg_test")]
mod tests;
mod workers;

use gate::GATE;
use group::queue::{QUEUE, ROOMS, TAKES, WORDS};
use pgrx::pg_shmem_init;
use pgrx::prelude::*;
use stats::STATS;
use workers::{LATCHES, STATE};

::pgrx::pg_module_magic!(name, version);

extension_sql_file!("../sql/tables.sql", name = "tables", bootstrap);
extension_sql_file!(
    "../sql/buyer_functions.sql",
    name = "buyer_functions",
    requires = ["tables"]
);
extension_sql_file!(
    "../sql/operator_functions.sql",
    name = "operator_functions",
    requires = ["buyer_functions"]
);
extension_sql_file!(
    "../sql/views.sql",
    name = "views",
    requires = ["operator_functions"]
);
extension_sql_file!("../sql/guard.sql", name = "guard", requires = ["views"]);
extension_sql_file!("../sql/health.sql", name = "health", requires = ["guard"]);
extension_sql_file!("../sql/warning.sql", name = "warning", requires = ["guard"]);
extension_sql_file!(
    "../sql/privileges.sql",
    name = "privileges",
    requires = ["health"],
    finalize
);

#[pg_guard]
pub extern "C-unwind" fn _PG_init() {
    pg::backtrace::disable();
    pg::planner::init();
    settings::init();
    guard::init();
    if pg::session::is_preloading() {
        preload();
    }
}

/// Requests shared memory and registers the launcher, which only a preloaded library can do.
fn preload() {
    pg_shmem_init!(QUEUE = ());
    pg_shmem_init!(WORDS = ());
    pg_shmem_init!(ROOMS = ());
    pg_shmem_init!(TAKES = ());
    pg_shmem_init!(LATCHES = ());
    pg_shmem_init!(GATE = ());
    pg_shmem_init!(STATS = ());
    pg_shmem_init!(STATE = ());
    workers::init();
    // pg_upgrade starts both servers, and nothing may change rows meanwhile or hold a database.
    if !pg::session::is_upgrading() {
        pg::worker::register_launcher();
    }
}

/// `cargo pgrx test` expects this module at the root of the crate.
#[cfg(all(test, feature = "pg_test"))]
pub mod pg_test {
    pub fn setup(_options: Vec<&str>) {}

    #[must_use]
    pub fn postgresql_conf_options() -> Vec<&'static str> {
        // A test that alters a table makes those wait that run at the same time.
        vec!["flashsale.lock_wait = '60s'"]
    }
}
