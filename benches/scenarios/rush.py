"""The rush: many buyers, 100 units, 100 connections, until the last has a final answer."""

import functools

from bench import client, interleaved, medians, say
from report import Row, against
from shops import GROUPED, NEVEROVERSELL

UNITS = 100


def run(size):
    peers = ["grouped", "nowait", "update", "neveroversell", "empty"]
    GROUPED.open()
    NEVEROVERSELL.open()
    runs = {peer: functools.partial(seconds, peer, size.buyers) for peer in peers}
    took = medians(interleaved(size.rounds, runs))
    what = f"{size.buyers:,} buyers, {UNITS} units, 100 connections"
    for base, label, bar in [
        ("neveroversell", "neveroversell's", 1 / 6),
        ("update", "conditional UPDATE's", 1),
    ]:
        figures = took["grouped"], "s", took[base]
        yield against("rush", f"{what}, grouped", *figures, label, at_most=bar)
    for peer in peers[1:]:
        yield Row("rush", f"... {peer}", took[peer], "s")
    GROUPED.sold()


def seconds(peer, buyers):
    told = client("rush", "--peer", peer, "--buyers", buyers, "--units", UNITS)
    if peer != "empty" and (told["sold"], told["sold"] + told["refused"]) != (UNITS, buyers):
        raise RuntimeError(f"rush: {told}")
    say(f"rush, {peer}: {told['seconds']:.2f} s, {told['retries']} retries")
    return told["seconds"]
