//! The guard of the orders: while there are some, no statement may drop the tables, or change
//! them so that a dump cannot be restored, unless a superuser allows it.
//!
//! An object access hook sees every such statement, whatever it is called and whatever cascades
//! to the tables. Without preload the library has to be loaded first; the event trigger
//! `flashsale_guard` does that, and guards by itself if it cannot.

use crate::error::Fault;
use crate::pg::{catalog, heap, hooks};
use crate::settings;
use flashsale_core::guard::{self, Alteration, Object};
use pgrx::pg_sys::panic::ErrorReport;
use pgrx::pg_sys::panic::ErrorReportable;

pub fn init() {
    hooks::on_alteration(check);
}

fn check(object: Object<'_>, alteration: Alteration) {
    let Some(refusal) = guard::refusal(object, alteration) else {
        return;
    };
    if settings::protect_data()
        && catalog::is_installed()
        && !catalog::is_script_running()
        && [c"orders", c"payments"]
            .into_iter()
            .any(|table| heap::has_rows(c"flashsale", table))
    {
        Err::<(), ErrorReport>(Fault::Protected(refusal).into()).unwrap_or_report();
    }
}
