"""Direct table access against SQL statements, switched by `flashsale.direct_access` while one
load runs, a fraction of a second each, in an order of chance each round. So the noise of a
machine hits both alike: what counts is the ratio to direct access within the same round, and
direct access against itself says how much of that is noise. Units of a window are those of the
orders that were created in it."""

import dataclasses
import random
import statistics
import time

import server
from bench import say
from report import Row
from scenarios.batch import BATCH
from shops import GROUPED, NOWAIT

BASE = "direct"
RIVALS = {BASE: "on", "direct again": "on", "statements": "off"}
SETTLE_SECONDS = 0.15
WINDOW_SECONDS = 0.4


@dataclasses.dataclass
class Case:
    what: str
    shop: object
    clients: int
    items: int = 1
    options: str = ""


CASES = [
    Case("nowait, 1,000 items, 16 clients, durable", NOWAIT, 16, 1_000),
    Case(
        "nowait, 1,000 items, 16 clients, synchronous_commit off",
        NOWAIT,
        16,
        1_000,
        "-c synchronous_commit=off",
    ),
    Case("grouped, 64 clients", GROUPED, 64),
    Case("purchase_batch of 64, atomic, 2 connections", BATCH, 2, 1, "-c flashsale.strategy=atomic"),
]


@dataclasses.dataclass
class Window:
    rival: str
    begins: str
    ends: str
    seconds: float
    wal_bytes: int
    units: int = 0

    @property
    def rate(self):
        return self.units / self.seconds


def run(size):
    rounds = 4 if size.seconds == 1 else 14
    for case in CASES:
        yield from rows(case, measure(case, rounds))


def measure(case, rounds):
    """Windows of each round, by rival."""
    rivals = list(RIVALS)
    case.shop.open(case.items)
    seconds = int((rounds + 1) * len(rivals) * (SETTLE_SECONDS + WINDOW_SECONDS) * 1.5) + 10
    load = case.shop.start(case.clients, seconds=seconds, options=case.options)
    measured = []
    try:
        with server.session() as session:
            for rival in rivals: # so that each backend has its plans
                window(session, rival)
            for _ in range(rounds):
                order = random.sample(rivals, len(rivals))
                measured.append({rival: window(session, rival) for rival in order})
    finally:
        server.sql("ALTER SYSTEM RESET flashsale.direct_access", "SELECT pg_reload_conf()")
        assert load.process.poll() is None, "the load ended too early"
        load.process.terminate()
        load.process.wait()
        load.folder.cleanup()
    server.wait_for(
        "SELECT count(*) = 0 FROM pg_stat_activity WHERE application_name = 'pgbench'"
    )
    say(f"{case.what}: {case.shop.sold():,} units, books balance")
    count([one for by_rival in measured for one in by_rival.values()])
    return measured


def window(session, rival):
    session.run(f"ALTER SYSTEM SET flashsale.direct_access = {RIVALS[rival]}")
    session.run("SELECT pg_reload_conf()")
    time.sleep(SETTLE_SECONDS)
    begins, lsn = now(session)
    began = time.monotonic()
    time.sleep(WINDOW_SECONDS)
    ends, end_lsn = now(session)
    return Window(rival, begins, ends, time.monotonic() - began, end_lsn - lsn)


def now(session):
    at, lsn = session.run(
        "SELECT clock_timestamp(), pg_current_wal_insert_lsn() - '0/0'::pg_lsn"
    ).split("|")
    return at, int(lsn)


def count(windows):
    """Notes how many units were sold in each."""
    windows = sorted(windows, key=lambda one: one.begins)
    edges = ",".join(f"'{edge}'" for one in windows for edge in [one.begins, one.ends])
    found = server.sql(
        f"SELECT width_bucket(created_at, ARRAY[{edges}]::timestamptz[]), sum(quantity)"
        " FROM flashsale.orders GROUP BY 1"
    )
    units = {int(bucket): int(total) for bucket, total in found}
    for nth, one in enumerate(windows):
        one.units = units.get(2 * nth + 1, 0)


def rows(case, measured):
    for rival in list(RIVALS):
        windows = [by_rival[rival] for by_rival in measured]
        ratios = [by_rival[rival].rate / by_rival[BASE].rate for by_rival in measured]
        rate = statistics.median(one.rate for one in windows)
        low, median, high = statistics.quantiles(ratios, n=4)
        wal = statistics.median(one.wal_bytes / one.units for one in windows if one.units)
        what = f"{case.what}: {rival} [{low:.2f}, {high:.2f}], {wal:,.0f} bytes of WAL"
        yield Row("access", what, rate, "/s", "", median)
