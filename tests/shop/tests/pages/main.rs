//! The two pages of examples/checkout in a real browser.

mod browser;
mod operator;
mod pictures;
mod shop_page;
