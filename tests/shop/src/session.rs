//! Session cookies, signed the way the app signs its own.

use std::time::{SystemTime, UNIX_EPOCH};

use cookie::{Cookie, CookieJar, Key};

/// A `Cookie` header for a session of this user that ends in so many seconds, or ended before
/// now where that is negative.
pub fn cookie(secret: &str, name: &str, user: &str, ends_in_s: i64) -> String {
    let now_s = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0, |age| age.as_secs() as i64);
    let session = Cookie::new(name.to_owned(), format!("{user}|{}", now_s + ends_in_s));
    let mut jar = CookieJar::new();
    jar.signed_mut(&Key::from(secret.as_bytes())).add(session);
    let cookies = jar.iter().map(|cookie| cookie.encoded().to_string());
    cookies.collect::<Vec<_>>().join("; ")
}
