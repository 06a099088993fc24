"""A buyer with very many dead orders for the item."""

import load
import server
from bench import interleaved, medians, say
from report import against
from shops import NOWAIT

CALLS = 200


def run(size):
    NOWAIT.open()
    item = NOWAIT.items["first"]
    server.sql(
        # With a limit, so that each purchase looks up what its user holds.
        f"UPDATE flashsale.items SET max_per_user = 1000, cancelled_units = {size.dead_orders}"
        f" WHERE item_id = {item}",
        "INSERT INTO flashsale.orders"
        " (item_id, quantity, units_held, created_at, status, user_id, closed_at)"
        f" SELECT {item}, 1, 0, now(), 'cancelled', 'user 0', now()"
        f" FROM generate_series(1, {size.dead_orders})",
        "VACUUM ANALYZE flashsale.orders",
    )
    runs = {"veteran": lambda: purchase_ms(1), "new": lambda: purchase_ms(0)}
    took = medians(interleaved(size.rounds, runs))
    NOWAIT.sold()
    yield against(
        "dead-orders",
        f"purchase by a buyer with {size.dead_orders:,} dead orders, median",
        took["veteran"],
        "ms",
        took["new"],
        "a new buyer's",
        at_most=1.5,
    )


def purchase_ms(old):
    """Without waiting for the disk, which would hide a difference."""
    done = NOWAIT.load(
        1,
        transactions=CALLS,
        log=True,
        script="rebuy.sql",
        old=old,
        options="-c synchronous_commit=off",
    )
    # So that the next run begins as this one did.
    server.sql(
        "SELECT count(flashsale.cancel_order(order_id)) FROM flashsale.orders"
        " WHERE status = 'reserved'"
    )
    median = load.percentile(done.log, 0.5)
    say(f"{'a buyer with dead orders' if old else 'new buyers'}: {median:.3f} ms a purchase")
    return median
