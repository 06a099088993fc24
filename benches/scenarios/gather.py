"""The Rust client's gatherer, with 512 clicks in flight, against purchase_batch from pgbench."""

import functools
import statistics

from bench import client, interleaved, say, sell
from report import Row, against
from scenarios.batch import BATCH, REQUESTS

CONNECTIONS = [2, 8]
CLICKS = 512


def run(size):
    runs = {}
    for connections in CONNECTIONS:
        runs["pgbench", connections] = functools.partial(
            sell,
            BATCH,
            connections,
            seconds=size.seconds,
            options="-c flashsale.strategy=grouped",
        )
        runs["gathered", connections] = functools.partial(gathered, connections, size.seconds)
    results = interleaved(size.rounds, runs)
    for connections in CONNECTIONS:
        told = results["gathered", connections]
        yield against(
            "gather",
            f"{CLICKS} clicks in flight gathered, {connections} connections",
            statistics.median(run["per_second"] for run in told),
            "/s",
            statistics.median(sale.rate for sale in results["pgbench", connections]),
            f"purchase_batch of {REQUESTS} from pgbench",
            0.8,
        )
        p99 = statistics.median(run["p99_ms"] for run in told)
        yield Row("gather", "... p99 of a click", p99, "ms")


def gathered(connections, seconds):
    BATCH.open()
    told = client(
        "gather", "--connections", connections, "--buyers", CLICKS, "--seconds", seconds
    )
    say(f"gathered, {connections} connections: {told['per_second']:,.0f}/s")
    BATCH.sold()
    return told
