"""Expiring stale reservations, against cancelling each."""

import json
import time

import server
from bench import say
from report import Row, against
from shops import NOWAIT

ITEMS = 1_000


def run(size):
    with server.settings(flashsale__reconcile_interval="0"):
        stale(size.stale)
        expired = expire_all(size.stale)
        NOWAIT.sold()
        stale(size.stale)
        cancelled = cancel_each(size.stale // 20)
        at_once = cancel_at_once(size.stale // 20)
        NOWAIT.sold()
    say(f"expiry: {expired:,.0f}/s, cancel_order {cancelled:,.0f}/s")
    what, loop = f"{size.stale:,} reservations of 1,000 items", "cancel_order in a loop"
    yield against("expiry", what, expired, "/s", cancelled, loop, 10)
    yield Row("expiry", f"... {loop}", cancelled, "/s")
    yield Row("expiry", "... cancel_order in one statement and commit", at_once, "/s")


def stale(count):
    """As many reservations past their time, the same number of each item."""
    NOWAIT.open(ITEMS, count // ITEMS)
    server.sql(
        "INSERT INTO flashsale.orders"
        " (item_id, quantity, units_held, created_at, expires_at, user_id)"
        f" SELECT {NOWAIT.items['first']} + n % {ITEMS}, 1, 1, now() - interval '1 hour',"
        f" now() - interval '45 minutes', 'user ' || n FROM generate_series(0, {count} - 1) n",
        "UPDATE flashsale.items SET inventory = 0",
        "VACUUM ANALYZE flashsale.items, flashsale.orders",
        "CHECKPOINT",
    )
    NOWAIT.sold()


def expire_all(count):
    began = time.monotonic()
    with server.session() as session:
        expired, more = 0, True
        while more:
            answer = json.loads(session.run("SELECT flashsale.reconcile_stale_reservations()"))
            expired, more = expired + answer["expired"], answer["more"]
    if expired != count:
        raise RuntimeError(f"{expired} of {count} reservations expired")
    return count / (time.monotonic() - began)


def cancel_each(count):
    first = server.value("SELECT min(order_id) FROM flashsale.orders")
    done = NOWAIT.load(1, transactions=count, script="cancel.sql", next=first)
    return done.transactions / done.seconds


def cancel_at_once(count):
    began = time.monotonic()
    server.sql(
        "SELECT count(flashsale.cancel_order(order_id)) FROM (SELECT order_id"
        f" FROM flashsale.orders WHERE status = 'reserved' LIMIT {count}) chosen"
    )
    return count / (time.monotonic() - began)
