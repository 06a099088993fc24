"""Sales and expiry while another session holds an old snapshot, so that no dead row can be removed."""

import contextlib
import itertools

import server
from bench import say
from report import against
from scenarios.expiry import expire_all, stale
from shops import ATOMIC, GROUPED, NOWAIT, OPTIMISTIC

CLIENTS = 64
# A client alone would wait for the disk most of the time, which hides what else takes longer.
NOT_DURABLE = "-c synchronous_commit=off"
STRATEGIES = list(itertools.product([NOWAIT, OPTIMISTIC, ATOMIC], [1, 16]))


def run(size):
    yield from single_purchases(size)
    yield grouped(size)
    yield reconciling(size)


@contextlib.contextmanager
def old_snapshot():
    with server.session() as reader:
        reader.run("BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT 1")
        yield
        reader.run("COMMIT")


def single_purchases(size):
    """The rate of each strategy on one item before and after many sales under one snapshot."""
    NOWAIT.open()
    count = size.held_sales // 20
    before = rates(count)
    with old_snapshot():
        NOWAIT.load(1, transactions=size.held_sales, options=NOT_DURABLE)
        after = rates(count)
    NOWAIT.sold()
    for strategy, clients in STRATEGIES:
        yield against(
            "old-snapshot",
            f"{strategy.label} from {clients}, after {size.held_sales:,} sales",
            after[strategy, clients],
            "/s",
            before[strategy, clients],
            "without an old snapshot",
            0.5,
        )


def rates(count):
    """What each strategy sells a second of the item that is open, in that many calls."""
    measured = {}
    for strategy, clients in STRATEGIES:
        strategy.items = NOWAIT.items
        before = units_gone()
        done = strategy.load(clients, transactions=count // clients, options=NOT_DURABLE)
        rate = (units_gone() - before) / done.seconds
        measured[strategy, clients] = rate
        say(f"{strategy.label} from {clients}: {rate:,.0f}/s")
    return measured


def units_gone():
    return int(server.value("SELECT sum(stock - inventory) FROM flashsale.items"))


def grouped(size):
    GROUPED.open()
    with old_snapshot():
        # Some more, since the clients end one by one.
        done = GROUPED.load(
            CLIENTS, transactions=size.held_snapshot * 11 // 10 // CLIENTS, log=True
        )
    GROUPED.sold()
    ends = [at for at, _ in done.log][: size.held_snapshot]
    tenth = len(ends) // 10
    first, last = (tenth / (part[-1] - part[0]) for part in [ends[:tenth], ends[-tenth:]])
    say(f"old snapshot: {first:,.0f}/s, then {last:,.0f}/s")
    return against(
        "old-snapshot",
        f"grouped, last tenth of {size.held_snapshot:,} purchases",
        last,
        "/s",
        first,
        "the first tenth",
        0.8,
    )


def reconciling(size):
    """Expiry of reservations after many others have expired."""
    with server.settings(flashsale__reconcile_interval="0"):
        usual = expire_more(size)
        with old_snapshot():
            held = expire_more(size)
    return against(
        "old-snapshot",
        f"reconcile_stale_reservations, after {size.dead_reservations:,} others",
        held,
        "/s",
        usual,
        "without an old snapshot",
        0.5,
    )


def expire_more(size):
    """The rate of expiry once as many reservations have expired."""
    stale(size.dead_reservations)
    expire_all(size.dead_reservations)
    count = size.dead_reservations // 10
    server.sql(
        "INSERT INTO flashsale.orders"
        " (item_id, quantity, units_held, created_at, expires_at, user_id)"
        f" SELECT {NOWAIT.items['first']} + n % 1000, 1, 1, now() - interval '1 hour',"
        f" now() - interval '10 minutes' + n * interval '1 millisecond', 'user ' || n"
        f" FROM generate_series(0, {count} - 1) n",
        f"UPDATE flashsale.items SET inventory = inventory - {count // 1000}",
        "ANALYZE flashsale.orders",
    )
    rate = expire_all(count)
    NOWAIT.sold()
    say(f"expiry: {rate:,.0f}/s")
    return rate
