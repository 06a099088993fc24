"""Sales while another session holds an old snapshot, so that no dead row can be removed."""

import contextlib
import itertools

import server
from bench import say
from report import against
from shops import ATOMIC, GROUPED, NOWAIT, OPTIMISTIC

CLIENTS = 64
# A client alone would wait for the disk most of the time, which hides what else takes longer.
NOT_DURABLE = "-c synchronous_commit=off"
STRATEGIES = list(itertools.product([NOWAIT, OPTIMISTIC, ATOMIC], [1, 16]))


def run(size):
    yield from single_purchases(size)
    yield grouped(size)


@contextlib.contextmanager
def old_snapshot():
    with server.session() as reader:
        reader.run("BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT count(*) FROM flashsale.items")
        yield
        reader.run("COMMIT")


def single_purchases(size):
    """The rate of each strategy on one item before and after many sales under one snapshot."""
    NOWAIT.open()
    before = rates(size)
    with old_snapshot():
        NOWAIT.load(1, transactions=size.held_sales, options=NOT_DURABLE)
        after = rates(size)
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


def rates(size):
    """What each strategy sells a second of the item that is open."""
    measured = {}
    before = NOWAIT.sold()
    for strategy, clients in STRATEGIES:
        strategy.items = NOWAIT.items
        done = strategy.load(clients, seconds=size.seconds, options=NOT_DURABLE)
        sold = NOWAIT.sold()
        rate = (sold - before) / done.seconds
        measured[strategy, clients], before = rate, sold
        say(f"{strategy.label} from {clients}: {rate:,.0f}/s")
    return measured


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
