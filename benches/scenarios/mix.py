"""A mix on the hot item: 70 % purchases, 10 % cancels, 20 % confirms."""

import server
from bench import interleaved, medians, say, sell
from report import against
from shops import GROUPED

CALLS = 10  # of which 7 purchases, a cancel and 2 confirms; see sql/mix.sql


def run(size):
    runs = {
        "alone": lambda: sell(GROUPED, 64, seconds=size.seconds).rate,
        "mix": lambda: mixed(size.seconds),
    }
    rates = medians(interleaved(size.rounds, runs))
    yield against(
        "mix",
        "70 % purchase, 10 % cancel, 20 % confirm, 64 clients",
        rates["mix"],
        "calls/s",
        rates["alone"],
        "grouped purchases alone",
        0.5,
    )


def mixed(seconds):
    """Counts the calls that did something."""
    GROUPED.open()
    done = GROUPED.load(
        64, seconds=seconds, script="mix.sql", options="-c flashsale.strategy=grouped"
    )
    GROUPED.sold()
    moves = int(
        server.value(
            "SELECT count(*) + count(*) FILTER (WHERE status IN ('cancelled', 'confirmed'))"
            " FROM flashsale.orders"
        )
    )
    rate = moves / done.seconds
    say(f"mix: {rate:,.0f} calls/s, {moves} of {done.transactions * CALLS} did something")
    return rate
