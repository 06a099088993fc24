"""8 clients over 1,000 items, whose buyers rarely compete."""

from bench import rates
from report import against
from shops import BARE, NEVEROVERSELL, NOWAIT

ITEMS = 1_000


def run(size):
    for what, commit in [("durable commits", "on"), ("synchronous_commit = off", "off")]:
        options = f"-c synchronous_commit={commit}"
        shops = [NOWAIT, BARE, NEVEROVERSELL]
        sold = rates(size.rounds, shops, 8, items=ITEMS, seconds=size.seconds, options=options)
        for base, bar in [(BARE, 0.95), (NEVEROVERSELL, 2.5)]:
            yield against(
                "many-items",
                f"nowait, 1,000 items, 8 clients, {what}",
                sold[NOWAIT],
                "/s",
                sold[base],
                base.label,
                bar,
            )
