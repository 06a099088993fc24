"""A sold-out item: what a refusal costs."""

import functools

import server
from bench import interleaved, medians, say
from report import against
from shops import EMPTY, GROUPED, NEVEROVERSELL, NOWAIT, Peer

LOCKS_FIRST = Peer("lock_first", "PL/pgSQL that locks before it looks")


def run(size):
    rates = refusals(size, [GROUPED, EMPTY, NEVEROVERSELL])
    for base, bar in [(EMPTY, 0.9), (NEVEROVERSELL, 20)]:
        yield against(
            "sold-out",
            "gate, 64 clients",
            rates[GROUPED],
            "answers/s",
            rates[base],
            base.label,
            bar,
        )
    # A library that every session loads anyway; ALTER SYSTEM cannot set an empty list.
    with server.settings(restarting=True, shared_preload_libraries="plpgsql"):
        rates = refusals(size, [NOWAIT, LOCKS_FIRST])
    yield against(
        "sold-out",
        "without preload, nowait, 64 clients",
        rates[NOWAIT],
        "answers/s",
        rates[LOCKS_FIRST],
        LOCKS_FIRST.label,
        2,
    )


def refusals(size, shops):
    runs = {shop: functools.partial(refuse, shop, size.seconds) for shop in shops}
    return medians(interleaved(size.rounds, runs))


def refuse(shop, seconds):
    shop.open(units=0)
    done = shop.load(64, seconds=seconds)
    if shop is not EMPTY:
        shop.require(shop.sold() == 0, "sold units that are not there")
    rate = done.transactions / done.seconds
    say(f"sold out, {shop.label}: {rate:,.0f} answers/s")
    return rate
