"""Buyers of 1,000 other items while one item is stormed with what a peer can bear."""

import functools

import load
from bench import interleaved, medians, say, sell
from report import against
from shops import GROUPED, NEVEROVERSELL, NOWAIT, SEED1, SEED2, SEED3, SUBROWS

ITEMS = 1_000
COLD_RATE = 400


def run(size):
    for peer in [SEED1, SEED2, SEED3, SUBROWS, NEVEROVERSELL]:
        offered = max(int(sell(peer, 64, seconds=size.seconds).rate), 1)
        runs = {
            shop: functools.partial(p99, shop, offered, size.seconds) for shop in [GROUPED, peer]
        }
        p99s = medians(interleaved(size.rounds, runs))
        yield against(
            "bystanders",
            f"p99 beside grouped, {offered:,} purchases/s offered",
            p99s[GROUPED],
            "ms",
            p99s[peer],
            f"beside {peer.label}",
            at_most=1,
        )


def p99(stormed, offered, seconds):
    """The first of our items is stormed, if it is ours that storms; the others are bought."""
    NOWAIT.open(ITEMS + 1)
    first, last = NOWAIT.items["first"], NOWAIT.items["last"]
    if stormed is GROUPED:
        stormed.items = {"first": first, "last": first}
    else:
        stormed.open()
    storm = stormed.start(64, rate=offered, seconds=seconds + 1)
    try:
        cold = NOWAIT.load(
            8, rate=COLD_RATE, seconds=seconds, log=True, first=first + 1, last=last
        )
    finally:
        storm.finish()
    NOWAIT.sold()
    if stormed is not GROUPED:
        stormed.sold()
    figure = load.percentile(cold.log, 0.99)
    say(f"others beside {stormed.label}: p99 {figure:.1f} ms")
    return figure
