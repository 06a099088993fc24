"""Predicts what several nodes and routers sell from the processor time that a call takes.

Run it in scripts/with-router with four nodes, as `make simulate-shards` does. It measures that time
on one node, directly and through a router. From this it predicts the rates and p99 of two and four
nodes on the same machine, and measures these too. Then it simulates machines that are not there.
"""

import argparse
import dataclasses
import heapq
import itertools
import math
import os
import pathlib
import random
import resource
import statistics
import time

import load
import machine
import server


# ---- the simulation -----------------------------------------------------------------------------


@dataclasses.dataclass(frozen=True)
class Call:
    """Seconds of processor time on each side, and those that a flush of the disk takes."""

    client: float
    router: float
    node: float
    flush: float


class Clock:
    """Events in the order of their times."""

    def __init__(self):
        self.now = 0.0
        self.events = []
        self.numbers = itertools.count()
        self.random = random.Random(1)

    def after(self, seconds, act):
        heapq.heappush(self.events, (self.now + seconds, next(self.numbers), act))

    def run(self, seconds):
        while self.events and self.events[0][0] <= seconds:
            self.now, _, act = heapq.heappop(self.events)
            act()


class Cores:
    """All who can run share the processors, as the kernel has them. A call's time is exponential."""

    def __init__(self, clock, count):
        self.clock, self.count = clock, count
        self.running = []  # a heap: how much time each one will have been given when it ends
        self.given, self.since = 0.0, 0.0  # the time that each call which ran all along has had, as of `since`
        self.plan = 0  # the number of the last end that was planned; earlier ones are void

    def take(self, mean, then):
        self.advance()
        end = self.given + self.clock.random.expovariate(1 / mean)
        heapq.heappush(self.running, (end, next(self.clock.numbers), then))
        self.plan_end()

    def share(self):
        return min(1.0, self.count / len(self.running))

    def advance(self):
        if self.running:
            self.given += (self.clock.now - self.since) * self.share()
        self.since = self.clock.now

    def plan_end(self):
        """Plans the end of the call that ends first, which is void if others come or go before."""
        self.plan += 1
        if self.running:
            plan, left = self.plan, self.running[0][0] - self.given
            self.clock.after(left / self.share(), lambda: self.plan == plan and self.end())

    def end(self):
        self.advance()
        *_, then = heapq.heappop(self.running)
        self.plan_end()
        then()


class Disk:
    """A flush serves all commits that waited when it began; one at a time."""

    def __init__(self, clock):
        self.clock, self.waiting, self.is_busy = clock, [], False

    def take(self, seconds, then):
        self.waiting.append(then)
        if not self.is_busy:
            self.flush(seconds)

    def flush(self, seconds):
        served, self.waiting, self.is_busy = self.waiting, [], True
        self.clock.after(seconds, lambda: self.end(seconds, served))

    def end(self, seconds, served):
        self.is_busy = False
        if self.waiting:
            self.flush(seconds)
        for then in served:
            then()


class Machines:
    """Routers and nodes, each with cores of its own; or they and the clients share the same."""

    def __init__(self, clock, nodes, routers, cores, is_shared):
        self.clock = clock
        shared = Cores(clock, cores)
        self.clients = shared if is_shared else None
        own = (lambda: shared) if is_shared else (lambda: Cores(clock, cores))
        self.routers = [own() for _ in range(routers)]
        self.nodes = [(own(), Disk(clock)) for _ in range(nodes)]

    def path(self, call):
        """Where a call goes and comes back, and how long it takes there."""
        to = [(self.clients, call.client / 2)] if self.clients else []
        if self.routers:
            to.append((self.clock.random.choice(self.routers), call.router / 2))
        node, disk = self.clock.random.choice(self.nodes)
        return [*to, (node, call.node), (disk, call.flush), *reversed(to)]


def predict(call, *, nodes, routers, cores, is_shared=False, clients=0, rate=None, seconds=2.0):
    """Calls a second and their p99 in ms: of clients that call again at once, or at a rate."""
    clock = Clock()
    machines = Machines(clock, nodes, routers, cores, is_shared)
    took = []

    def follow(path, done):
        if not path:
            return done()
        (station, mean), *rest = path
        return station.take(mean, lambda: follow(rest, done))

    def begin(again):
        begun = clock.now

        def done():
            took.append(clock.now - begun)
            if again:
                begin(again)

        follow(machines.path(call), done)

    def arrive():
        begin(again=False)
        clock.after(clock.random.expovariate(rate), arrive)

    if rate:
        arrive()
    for _ in range(clients):
        begin(again=True)
    clock.run(seconds)
    took = took[len(took) // 10 :]  # until then it filled
    return len(took) / 0.9 / seconds, statistics.quantiles(took, n=100)[98] * 1e3


# ---- measured -----------------------------------------------------------------------------------

ITEMS = 200
CLIENTS = 16
WARM_UP = 3  # seconds a node, because a session's first call there takes much longer
ROUTER = os.environ["PGHOST"]
NODES = [node.split("=") for node in os.environ["NODES"].split()]  # folders of socket and data


def cpu_seconds(data):
    """Of the server with this folder, and of all its processes, also of those that have ended."""
    postmaster = int(pathlib.Path(data, "postmaster.pid").read_text().split()[0])
    ticks = 0
    for stat in pathlib.Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = stat.read_text().rsplit(")", 1)[1].split()
        except OSError:  # it has ended
            continue
        if int(stat.parent.name) == postmaster:
            ticks += sum(map(int, fields[11:15]))
        elif int(fields[1]) == postmaster:
            ticks += sum(map(int, fields[11:13]))
    return ticks / os.sysconf("SC_CLK_TCK")


def usage():
    """Of the router, and of all nodes."""
    return [cpu_seconds(server.DATA), sum(cpu_seconds(data) for _, data in NODES)]


def measure(nodes, is_direct, seconds):
    """What a call takes on each side in s, calls a second, and their p99 in ms."""
    os.environ["PGHOST"] = NODES[0][0] if is_direct else ROUTER
    client = resource.getrusage(resource.RUSAGE_CHILDREN)
    warm_up = WARM_UP * nodes
    running = load.Running(
        "simulate.sql",
        CLIENTS,
        seconds=warm_up + seconds,
        log=True,
        database=server.OURS if is_direct else "router",
        items=ITEMS,
        nodes=nodes,
    )
    time.sleep(warm_up)
    began, before = time.time(), usage()
    done = running.finish()
    ended, after = time.time(), usage()
    calls = [(at, took) for at, took in done.log if at > began]
    sides = [(used - then) / len(calls) for then, used in zip(before, after)]
    children = resource.getrusage(resource.RUSAGE_CHILDREN)
    client = children.ru_utime + children.ru_stime - client.ru_utime - client.ru_stime
    rate = len(calls) / (ended - began)
    return [client / done.transactions, *sides, rate, load.percentile(calls, 0.99)]


def check(rounds, seconds, flush):
    """Prints what was predicted beside what was measured. Returns what a routed call takes."""
    ways = [(1, True), (1, False), (2, False), (4, False)]
    runs = {way: [] for way in ways}
    for _ in range(rounds):
        for way in ways:
            runs[way].append(measure(*way, seconds))
    medians = {way: [statistics.median(column) for column in zip(*runs[way])] for way in ways}
    calls = {is_direct: Call(*medians[1, is_direct][:3], flush) for is_direct in [True, False]}
    print(f"{ITEMS} items, atomic, {CLIENTS} clients; medians of {rounds} runs of {seconds} s")
    for is_direct, call in calls.items():
        client, router, node = (
            f"{side * 1e6:,.0f}" for side in [call.client, call.router, call.node]
        )
        way = "directly" if is_direct else "through a router"
        print(f"  µs of processor time, {way}: client {client}, router {router}, node {node}")
    print("  nodes      calls/s  predicted  p99, ms  predicted")
    for nodes, is_direct in ways:
        rate, p99 = predict(
            calls[is_direct],
            nodes=nodes,
            routers=0 if is_direct else 1,
            cores=os.cpu_count(),
            is_shared=True,
            clients=CLIENTS,
        )
        name = f"{nodes}, direct" if is_direct else nodes
        *_, measured_rate, measured_p99 = medians[nodes, is_direct]
        print(f"  {name:<9}{measured_rate:9,.0f}{rate:11,.0f}{measured_p99:9.1f}{p99:11.1f}")
    return calls[False]


# ---- machines that are not there ----------------------------------------------------------------

CORES = 16
BUSY = 0.6  # at most, so that a burst does not queue up
FLUSH = 0.001  # of a disk in a cloud


def capacity(call):
    """Prints how many machines sell to so many buyers a second. The clients have their own."""
    call = dataclasses.replace(call, flush=FLUSH)
    print(f"\n{CORES} cores a machine, at most {BUSY:.0%} busy, flushes of 1 ms")
    print("  buyers/s   routers, busy     nodes, busy   p99, ms")
    for rate in [10_000, 100_000, 1_000_000]:
        routers = math.ceil(rate * call.router / CORES / BUSY)
        nodes = 1
        while rate * call.node / CORES / nodes > BUSY:
            nodes *= 2  # as PL/Proxy wants
        seconds = max(0.2, 5_000 / rate)
        _, p99 = predict(
            call, nodes=nodes, routers=routers, cores=CORES, rate=rate, seconds=seconds
        )
        busy = [rate * call.router / CORES / routers, rate * call.node / CORES / nodes]
        print(f"{rate:10,}{routers:10}{busy[0]:8.0%}{nodes:10}{busy[1]:8.0%}{p99:10.1f}")


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=int, default=3, help="a run")
    chosen = parser.parse_args()
    flush = 1 / machine.fsyncs_per_second()
    print(f"{machine.cpu()}, {os.cpu_count()} cores, a flush takes {flush * 1e6:,.0f} µs")
    for nodes in [1, 2, 4]:
        server.sql(
            f"SELECT count(flashsale.create_item(1000000000, item_id => {nodes} * 100000"
            f" + 4 * (n / {nodes}) + n % {nodes})) FROM generate_series(0, {ITEMS - 1}) n",
            database="router",
        )
    call = check(chosen.rounds, chosen.seconds, flush)
    capacity(call)


main()
