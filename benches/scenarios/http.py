"""Purchases over HTTP, with the application, its gateway, the database and the load on one machine:
the example shop, and the endpoint of the design that it replaces."""

import dataclasses
from statistics import median

import server
import web
from bench import interleaved, say
from report import Row, against, times
from shops import GROUPED, UNITS, Peer

from .with_redis import redis

SEED = Peer("http", "seed")
ROUNDS = 3  # most of a run is spent on starting and stopping programs
BUYERS = 32
WARM_UP = 1  # seconds
OUT_OF_STOCK = {400, 409}


@dataclasses.dataclass
class Run:
    rate: float
    load: web.Load


def run(size):
    with redis() as socket:
        yield from reserve_only(size, socket)
        yield from paid(size, socket)
        yield from sold_out(size, socket)


def reserve_only(size, socket):
    runs = measure(size, apps(socket, pays=False), sale)
    gathered, seed1 = runs["shop, gathered"], runs["seed 1"]
    for label, (rate, p50, p99) in runs.items():
        what = f"reserve only, {label}"
        yield Row("http", what, rate, "/s", ratio=times(rate, seed1[0]))
        yield Row("http", f"... p50 of a sale, {label}", p50, "ms")
        yield Row("http", f"... p99 of a sale, {label}", p99, "ms")
    yield at_least("reserve only, shop, gathered", gathered[0], "/s", 5_000)
    yield against("http", "reserve only, shop, gathered", gathered[0], "/s", seed1[0], "seed 1", 10)
    yield at_most("p99 of a sale, shop, gathered", gathered[2], "ms", 100)


def paid(size, socket):
    sellers = apps(socket, pays=True)
    del sellers["seed 2"]  # it leaves its paid orders reserved
    runs = measure(size, sellers, paid_sale)
    for label, (rate, p50, p99) in runs.items():
        ratio = times(rate, runs["seed 1"][0])
        yield Row("http", f"reserved, paid and confirmed, {label}", rate, "/s", ratio=ratio)
        yield Row("http", f"... p50 of a sale, {label}", p50, "ms")
        yield Row("http", f"... p99 of a sale, {label}", p99, "ms")


def sold_out(size, socket):
    sellers = apps(socket, pays=False)
    runs = measure(size, sellers, refusals)
    for label, (rate, _, p99) in runs.items():
        yield Row("http", f"sold out, {label}", rate, "answers/s", ratio=times(rate, runs["seed 3"][0]))
        yield Row("http", f"... p99 of an answer, {label}", p99, "ms")
    shop, seed3 = runs["shop, gathered"][0], runs["seed 3"][0]
    yield at_least("sold out, shop, gathered", shop, "answers/s", 10_000)
    yield against("http", "sold out, shop, gathered", shop, "answers/s", seed3, "seed 3", 5)


def apps(socket, pays):
    """By label: the tables, how to start the application, and the path of a purchase."""
    path = "/purchase" if pays else "/reserve"
    found = {
        "shop, gathered": (GROUPED, lambda: web.checkout(gather=True), path),
        "shop, one call a click": (GROUPED, lambda: web.checkout(gather=False), path),
    }
    for n in [1, 2, 3]:
        found[f"seed {n}"] = (SEED, lambda n=n: web.seed(n, socket, pays), "/purchase")
    return found


def measure(size, sellers, kind):
    """The medians of rate, p50 and p99 of each application."""
    runs = {label: lambda label=label: kind(size, label, *sellers[label]) for label in sellers}
    return {
        label: (
            median(run.rate for run in done),
            median(run.load.p50 for run in done),
            median(run.load.p99 for run in done),
        )
        for label, done in interleaved(min(size.rounds, ROUNDS), runs).items()
    }


def sale(size, label, shop, start, path):
    loads = sent(size, shop, start, path, UNITS)
    return counted(label, shop, *loads, shop.sold())


def paid_sale(size, label, shop, start, path):
    loads = sent(size, shop, start, path, UNITS)
    orders = "flashsale.orders" if shop is GROUPED else "peer.orders"
    confirmed = f"SELECT count(*) FROM {orders} WHERE status = 'confirmed'"
    return counted(label, shop, *loads, int(server.value(confirmed)))


def counted(label, shop, warm_up, load, sold):
    answered = warm_up.sales() + load.sales()
    shop.require(sold == answered, f"{answered} purchases were answered, and {sold} made")
    rate = load.sales() / load.seconds
    say(f"http, {label}: {rate:,.0f}/s, {load.statuses}")
    return Run(rate, load)


def refusals(size, label, shop, start, path):
    _, load = sent(size, shop, start, path, 0, buyers=1)  # nobody's orders are read
    shop.require(shop.sold() == 0, "sold units that are not there")
    answers = sum(load.statuses.values())
    refused = sum(load.statuses.get(code, 0) for code in OUT_OF_STOCK)
    shop.require(refused == answers, f"answers {load.statuses} when sold out")
    say(f"http, sold out, {label}: {answers / load.seconds:,.0f}/s")
    return Run(answers / load.seconds, load)


def sent(size, shop, start, path, units, buyers=BUYERS):
    """The load of a warm-up, and that which is measured."""
    shop.open(units=units)
    if shop is GROUPED:
        server.sql("UPDATE flashsale.items SET unit_price = 100, currency = 'EUR'")
    with start() as url:
        headers = [
            web.session(url) if shop is GROUPED else f"X-User: buyer {number}"
            for number in range(buyers)
        ]
        target = f"{url}{path}/{shop.items['first']}"
        return [web.load(target, headers, seconds=seconds) for seconds in [WARM_UP, size.seconds]]


def at_least(what, figure, unit, bar):
    return Row("http", what, figure, unit, f"≥ {bar:,} {unit}", met=figure >= bar)


def at_most(what, figure, unit, bar):
    return Row("http", what, figure, unit, f"≤ {bar:,} {unit}", met=figure <= bar)
