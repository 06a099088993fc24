//! Who is calling: signed cookies, so that a server need not remember sessions.
//!
//! A shop with accounts would set the same cookie after a login; here everybody is a guest.

use std::time::{SystemTime, UNIX_EPOCH};

use axum::extract::FromRequestParts;
use axum::http::request::Parts;
use axum_extra::extract::cookie::{Cookie, Key, SameSite, SignedCookieJar};

use crate::Shop;
use crate::failure::Failure;

const LIFETIME_S: u64 = 7 * 24 * 60 * 60;
const BUYER: &str = "session";
const OPERATOR: &str = "operator";

/// The user that a valid session names. Nothing else in a request says who buys.
pub struct Buyer(pub String);

/// Somebody who knew the operator's key.
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
        let user = user_of(&jar(parts, shop).await, OPERATOR);
        user.map(|_| Self).ok_or_else(Failure::unauthenticated)
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
    jar.add(cookie(BUYER, user_id))
}

pub fn start_as_operator(jar: SignedCookieJar) -> SignedCookieJar {
    jar.add(cookie(OPERATOR, OPERATOR))
}

/// `user|end in seconds since 1970`.
fn cookie(name: &'static str, user: &str) -> Cookie<'static> {
    Cookie::build((name, format!("{user}|{}", now_s() + LIFETIME_S)))
        .path("/")
        .http_only(true)
        .secure(true) // browsers send it to http://127.0.0.1 all the same
        .same_site(SameSite::Strict)
        .build()
}

fn user_of(jar: &SignedCookieJar, name: &str) -> Option<String> {
    let value = jar.get(name)?;
    let (user, ends_s) = value.value().rsplit_once('|')?;
    let is_current = ends_s.parse::<u64>().is_ok_and(|ends_s| now_s() < ends_s);
    // A cookie's name is not signed: a buyer's must not pass for an operator's when renamed.
    let is_of_its_kind = (user == OPERATOR) == (name == OPERATOR);
    (is_current && is_of_its_kind).then(|| user.to_owned())
}

fn now_s() -> u64 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0, |age| age.as_secs())
}
