//! Flash-sale inventory inside PostgreSQL: stock, orders and payments that cannot disagree.

mod answer;
mod api;
mod argument;
mod attempt;
mod backoff;
mod clock;
mod error;
mod order;
mod payment;
mod purchase;
mod reconcile;
mod settings;
mod stock;
mod store;
#[cfg(feature = "pg_test")]
mod tests;

use pgrx::prelude::*;

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
extension_sql_file!(
    "../sql/privileges.sql",
    name = "privileges",
    requires = ["views"],
    finalize
);

#[pg_guard]
pub extern "C-unwind" fn _PG_init() {
    settings::init();
}

/// What `cargo pgrx test` looks for at the root of the crate.
#[cfg(test)]
pub mod pg_test {
    pub fn setup(_options: Vec<&str>) {}

    #[must_use]
    pub fn postgresql_conf_options() -> Vec<&'static str> {
        vec![]
    }
}
