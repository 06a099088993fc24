//! Who is calling: signed cookies, so that a server need not remember sessions.
//!
//! A shop with accounts would set the same cookie after a login; here everybody is a guest.

use axum::extract::FromRequestParts;
use axum::http::request::Parts;
use axum_extra::extract::cookie::{Cookie, Key, SameSite, SignedCookieJar};

use crate::Shop;
use crate::failure::Failure;
use crate::secret::{fingerprint, now_s};

const BUYERS_LIFETIME_S: u64 = 7 * 24 * 60 * 60;
const OPERATORS_LIFETIME_S: u64 = 12 * 60 * 60;
const BUYER: &str = "session";
const OPERATOR: &str = "operator";

/// The user that a valid session names. Nothing else in a request says who buys.
pub struct Buyer(pub String);

/// A caller who knows the operator's key.
pub struct Operator;

impl FromRequestParts<Shop> for Buyer {
    type Rejection = Failure;

    async fn from_request_parts(parts: &mut Parts, shop: &Shop) -> Result<Self, Failure> {
        user_of(&jar(parts, shop).await, BUYER)
            .map(Self)
            .ok_or_else(Failure::unauthenticated)
    }
}

impl FromRequestParts<Shop> for Operator {
    type Rejection = Failure;

    async fn from_request_parts(parts: &mut Parts, shop: &Shop) -> Result<Self, Failure> {
        let key = user_of(&jar(parts, shop).await, OPERATOR);
        // A new key ends the sessions of the old one.
        if key.is_some_and(|key| key == fingerprint(&shop.operator_key)) {
            Ok(Self)
        } else {
            Err(Failure::unauthenticated())
        }
    }
}

async fn jar(parts: &mut Parts, shop: &Shop) -> SignedCookieJar<Key> {
    let Ok(jar) = SignedCookieJar::from_request_parts(parts, shop).await;
    jar
}

/// The buyer's session, if there is a valid one.
pub fn buyer(jar: &SignedCookieJar) -> Option<String> {
    user_of(jar, BUYER)
}

pub fn start_as_buyer(jar: SignedCookieJar, user_id: &str) -> SignedCookieJar {
    jar.add(cookie(BUYER, user_id, BUYERS_LIFETIME_S))
}

pub fn start_as_operator(jar: SignedCookieJar, key: &str) -> SignedCookieJar {
    jar.add(cookie(OPERATOR, &fingerprint(key), OPERATORS_LIFETIME_S))
}

/// `kind|user|end in seconds since 1970`. The kind is in it since a cookie's name is not signed:
/// one that is renamed must not pass for the other.
fn cookie(kind: &'static str, user: &str, lifetime_s: u64) -> Cookie<'static> {
    Cookie::build((kind, format!("{kind}|{user}|{}", now_s() + lifetime_s)))
        .path("/")
        .http_only(true)
        .secure(true) // browsers send it to http://127.0.0.1 nevertheless
        .same_site(SameSite::Strict)
        .build()
}

fn user_of(jar: &SignedCookieJar, kind: &str) -> Option<String> {
    let cookie = jar.get(kind)?;
    let value = cookie.value().strip_prefix(kind)?.strip_prefix('|')?;
    let (user, ends_s) = value.rsplit_once('|')?;
    let is_current = ends_s.parse::<u64>().is_ok_and(|ends_s| now_s() < ends_s);
    is_current.then(|| user.to_owned())
}
