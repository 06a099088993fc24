"""How long runs take, and the ways in which everything is measured."""

import dataclasses
import functools
import json
import os
import statistics
import subprocess
import sys

import load


@dataclasses.dataclass(frozen=True)
class Size:
    seconds: int  # a run
    clients: tuple  # the points of the plot
    rounds: int  # runs of which the median counts, interleaved
    buyers: int  # of a rush for 100 units
    held_snapshot: int  # grouped purchases while a snapshot is held
    held_sales: int  # single purchases while a snapshot is held
    dead_reservations: int  # expired while a snapshot is held
    dead_orders: int  # of one buyer
    stale: int  # reservations to expire, of 1,000 items
    lifetime: int  # purchases of a backend whose memory is measured


FULL = Size(
    seconds=3,
    clients=(1, 4, 16, 64, 200),
    rounds=5,
    buyers=5_000,
    held_snapshot=300_000,
    held_sales=100_000,
    dead_reservations=200_000,
    dead_orders=100_000,
    stale=100_000,
    lifetime=10_000,
)
QUICK = Size(
    seconds=1,
    clients=(1, 16, 64, 200),
    rounds=1,
    buyers=2_000,
    held_snapshot=30_000,
    held_sales=10_000,
    dead_reservations=20_000,
    dead_orders=20_000,
    stale=20_000,
    lifetime=2_000,
)


@dataclasses.dataclass
class Sale:
    """One run: what was sold a second, and the load that sold it."""

    rate: float
    sold: int
    load: load.Load


def sell(shop, clients, *, items=1, **arguments):
    """Opens the shop, sends buyers, and counts what its tables say was sold."""
    shop.open(items)
    done = shop.load(clients, **arguments)
    sold = shop.sold()
    sold = done.transactions if sold is None else sold
    say(f"{shop.label} at {clients}: {sold / done.seconds:,.0f}/s")
    return Sale(sold / done.seconds, sold, done)


def say(text):
    """Progress, apart from the results."""
    print(f"  {text}", file=sys.stderr, flush=True)


def interleaved(rounds, runs):
    """Runs everything in turn, round after round. `runs` has a function by key; the answer
    has the list of what it returned."""
    results = {key: [] for key in runs}
    for _ in range(rounds):
        for key, run in runs.items():
            results[key].append(run())
    return results


def medians(results):
    return {key: statistics.median(runs) for key, runs in results.items()}


def median_rates(sales):
    return medians({key: [sale.rate for sale in runs] for key, runs in sales.items()})


def rates(rounds, shops, clients, **arguments):
    """What each shop sells a second, the median of runs in turn."""
    runs = {shop: functools.partial(sell, shop, clients, **arguments) for shop in shops}
    return median_rates(interleaved(rounds, runs))


def median_p99(sales):
    return statistics.median(load.percentile(sale.load.log, 0.99) for sale in sales)


def client(*arguments):
    """Runs the asynchronous client, which answers with one line of JSON."""
    done = subprocess.run(
        [os.environ["BENCH_CLIENT"], *map(str, arguments)],
        check=False,
        capture_output=True,
        text=True,
    )
    if done.returncode != 0:
        raise RuntimeError(f"bench-client {arguments}: {done.stderr}")
    return json.loads(done.stdout)
