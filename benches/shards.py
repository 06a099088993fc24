"""Sells on one node directly and, through routers, on one, two and four, in turn. Then sells all.

Run it in scripts/with-router with four nodes, as `make shards` does. If anything was oversold, lost
or answered wrongly, it ends with an error; not if a bar was missed.
"""

import argparse
import contextlib
import dataclasses
import functools
import itertools
import os
import pathlib
import subprocess
import sys
import time

import bench
import machine
import server
from load import percentile
from report import Row, against, table, times
from shops import UNITS, Ours

ITEMS = 200
NODES = [node.split("=")[0] for node in os.environ["NODES"].split()]
MAKE_ROUTER = pathlib.Path(__file__).parents[1] / "examples/sharding/make-router"
WARM_UP_S = 3  # a node, because a session's first call there connects it and plans statements
FRESH_IDS = itertools.count(1_000_000, 1_000)


@dataclasses.dataclass(frozen=True)
class Place:
    """Where the calls go, and over how many nodes the items are spread."""

    host: str
    database: str
    nodes: int


@dataclasses.dataclass(frozen=True)
class Sale:
    label: str
    script: str
    clients: int
    items: int
    strategy: str
    purchases: int = 1  # a call


DIRECT = Place(NODES[0], server.OURS, 1)
ONE, TWO, FOUR = ROUTERS = [
    Place(os.environ["PGHOST"], database, nodes)
    for database, nodes in [("router1", 1), ("router2", 2), ("router", 4)]
]
MANY = Sale(f"{ITEMS} items", "shards.sql", 16, ITEMS, "atomic")
HOT = Sale("a hot item", "shards.sql", 16, 1, "grouped")
BATCHES = Sale("batches of 64", "shards_batch.sql", 4, ITEMS, "grouped", purchases=64)


class Shop(Ours):
    """Items on the first nodes; a single one is split over them, if there is a router."""

    def __init__(self, sale, place):
        super().__init__("shards", f"{sale.label}, {place.database}")
        self.sale = sale
        self.place = place
        self.database = place.database

    def open(self, items=1, units=UNITS):
        clear_nodes()
        self.create(items, units)

    def create(self, items, units):
        first, nodes = next(FRESH_IDS), self.place.nodes
        statements = [
            f"SELECT count(flashsale.create_item({units},"
            f" item_id => {first} + {len(NODES)} * (n / {nodes}) + n % {nodes}))"
            f" FROM generate_series(0, {items - 1}) n"
        ]
        if items == 1 and self.place != DIRECT:
            statements += [
                f"SELECT flashsale.pause_item({first})",
                f"SELECT router.split_item({first})",
                f"SELECT router.rebalance({first})",
                f"SELECT flashsale.resume_item({first})",
            ]
        with at(self.place.host):
            server.sql(*statements, database=self.database)
        self.items = {"first": first, "items": items, "nodes": nodes}

    def start(self, clients, **arguments):
        script, strategy = self.sale.script, self.sale.strategy
        with at(self.place.host):
            return super().start(clients, script, strategy=strategy, **arguments)

    def load(self, clients, **arguments):
        done = super().load(clients, **arguments)
        self.answered = done.transactions * self.sale.purchases
        return done

    def sold(self):
        sold = sold_on_nodes()
        self.require(sold == self.answered, f"{sold} sold, and {self.answered} answered")
        return sold


@contextlib.contextmanager
def at(host):
    before = os.environ["PGHOST"]
    os.environ["PGHOST"] = host
    try:
        yield
    finally:
        os.environ["PGHOST"] = before


def clear_nodes():
    for host in NODES:
        with at(host):
            server.sql(
                "TRUNCATE flashsale.orders, flashsale.payments",
                "TRUNCATE flashsale.items, flashsale.stock_movements",
                "CHECKPOINT",
            )


def sold_on_nodes():
    """The units sold on all nodes. On each of them the books must balance."""
    sold = 0
    for number, host in enumerate(NODES):
        with at(host):
            sold += Ours("shards", f"node {number}").sold()
    return sold


def make_router(place):
    """A router that knows only the first of the nodes."""
    connections = [f"host={host} dbname={server.OURS}" for host in NODES]
    made = subprocess.run([MAKE_ROUTER, *connections], check=True, capture_output=True, text=True)
    server.sql(f"CREATE DATABASE {place.database}")
    psql = ["psql", "-X1q", "-v", "ON_ERROR_STOP=1", "-d", place.database]
    subprocess.run(psql, check=True, input=made.stdout, text=True)
    dropped = ", ".join(f"DROP p{node}" for node in range(place.nodes, len(NODES)))
    server.sql(
        f"ALTER SERVER shop OPTIONS ({dropped})",
        "CREATE OR REPLACE FUNCTION router.nodes() RETURNS integer LANGUAGE sql IMMUTABLE"
        f" RETURN {place.nodes}",
        database=place.database,
    )


def compare(rounds, seconds):
    """The rows of each load: on 1, 2 and 4 nodes, and directly."""
    for sale in [MANY, HOT, BATCHES]:
        runs = {
            place: functools.partial(
                bench.sell,
                Shop(sale, place),
                sale.clients,
                items=sale.items,
                seconds=WARM_UP_S * place.nodes + seconds,
                log=True,
            )
            for place in [DIRECT, *ROUTERS]
        }
        sold = bench.interleaved(rounds, runs)
        yield from rows(
            sale,
            {place: [after_warm_up(run.load.log, seconds) for run in sold[place]] for place in sold},
            seconds,
        )


def after_warm_up(log, seconds):
    end, _ = log[-1]
    return [(when, latency) for when, latency in log if when > end - seconds]


def rows(sale, logs, seconds):
    """From the calls after the warm-up of each run."""
    calls = bench.medians({place: [len(log) / seconds for log in logs[place]] for place in logs})
    p99 = bench.medians({place: [percentile(log, 0.99) for log in logs[place]] for place in logs})
    rates = {place: calls[place] * sale.purchases for place in calls}
    points = {place.nodes: rates[place] for place in ROUTERS}
    what = f"{sale.label}, units on 1, 2 and 4 nodes"
    yield Row("shards", what, rates[FOUR], "/s", points=points)
    what = f"{sale.label}, units on 4 nodes"
    yield against("shards", what, rates[FOUR], "/s", rates[ONE], "1 node", 0.7)
    for what, unit, figures in [("calls", "/s", calls), ("p99 of a call", "ms", p99)]:
        yield Row("shards", f"{sale.label}, {what}, a node alone", figures[DIRECT], unit)
        ratio = times(figures[ONE], figures[DIRECT])
        what = f"{sale.label}, {what}, the same through a router"
        yield Row("shards", what, figures[ONE], unit, ratio=ratio)


def sell_out():
    """Sells items and a split item to single buyers and in batches, until nothing is left."""
    units, units_of_split = 60, 4_000
    many, split, batches = (Shop(sale, FOUR) for sale in [MANY, HOT, BATCHES])
    many.open(ITEMS, units)
    split.create(1, units_of_split)
    batches.items = many.items
    began = time.monotonic()
    # Each of the items is wanted by more than it has.
    crowds = [
        many.start(8, transactions=3_000),
        split.start(8, transactions=750),
        batches.start(4, transactions=40),
    ]
    for crowd in crowds:
        crowd.finish()
    seconds = time.monotonic() - began
    stock, sold = ITEMS * units + units_of_split, sold_on_nodes()
    left, problems, moves = server.sql(
        "SELECT (SELECT sum(inventory) FROM flashsale.item_status),"
        " (SELECT count(*) FROM flashsale.audit()),"
        " (SELECT count(*) FROM router.unfinished_moves())",
        database=FOUR.database,
    )[0]
    print(
        f"\nSold out in {seconds:.1f} s: {stock} units of {ITEMS} items and a split one, {sold} sold,"
        f" {left} left; audit of all {len(NODES)} nodes: {problems} rows; unfinished moves: {moves}"
    )
    if (sold, left, problems, moves) != (stock, "0", "0", "0"):
        sys.exit("this is not exact")


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=int, default=3, help="a run")
    chosen = parser.parse_args()
    for place in [ONE, TWO]:
        make_router(place)
    disk = f"{machine.fsyncs_per_second():,.0f} fdatasync/s"
    print(f"{machine.cpu()}, {os.cpu_count()} cores, {disk}")
    print(f"{chosen.rounds} rounds, {chosen.seconds} s a run\n")
    try:
        print(table(list(compare(chosen.rounds, chosen.seconds))))
        sell_out()
    except RuntimeError as error:
        sys.exit(str(error))


main()
