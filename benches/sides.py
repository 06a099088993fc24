"""Compares servers: each load runs on all of them in turn, round after round.

scripts/bench-sides starts the servers and names them: NAME=FOLDER=BINDIR, with the folder of the
socket. Prints a table of medians; the ratios are those to the first server in the same round. Ends
with an error if anything was oversold or lost.
"""

import argparse
import os
import statistics

import bench
import report
from bench import sell
from scenarios import mix, sold_out
from scenarios.batch import BATCH
from scenarios.many_items import ITEMS
from shops import ATOMIC, GROUPED, NOWAIT, OPTIMISTIC

PATH = os.environ["PATH"]


def scenarios(seconds):
    """What each load sells or answers a second."""

    def sale(shop, clients, **arguments):
        return lambda: sell(shop, clients, seconds=seconds, **arguments).rate

    def batch(connections, strategy):
        return sale(BATCH, connections, options=f"-c flashsale.strategy={strategy}")

    def many_items(commit):
        return sale(NOWAIT, 8, items=ITEMS, options=f"-c synchronous_commit={commit}")

    return {
        "hot": {
            "grouped, 1 client": sale(GROUPED, 1),
            "grouped, 16 clients": sale(GROUPED, 16),
            "grouped, 64 clients": sale(GROUPED, 64),
            "grouped, 200 clients": sale(GROUPED, 200),
            "nowait, 1 client": sale(NOWAIT, 1),
            "optimistic, 1 client": sale(OPTIMISTIC, 1),
            "atomic, 1 client": sale(ATOMIC, 1),
            "atomic, 16 clients": sale(ATOMIC, 16),
        },
        "batch": {
            "64 in a call, 2 connections, atomic": batch(2, "atomic"),
            "64 in a call, 8 connections, atomic": batch(8, "atomic"),
            "64 in a call, 2 connections, grouped": batch(2, "grouped"),
            "64 in a call, 8 connections, grouped": batch(8, "grouped"),
        },
        "many-items": {
            "1,000 items, 8 clients, durable commits": many_items("on"),
            "1,000 items, 8 clients, synchronous_commit = off": many_items("off"),
        },
        "mix": {"64 clients": lambda: mix.mixed(seconds)},
        "sold-out": {"64 clients": lambda: sold_out.refuse(GROUPED, seconds)},
    }


def use(side):
    """Makes psql and pgbench those of a server, and connects them to it."""
    _, folder, programs = side
    os.environ.update(PGHOST=folder, PATH=f"{programs}:{PATH}")


def in_turn(rounds, sides, load):
    """The rates of each server. Each round begins with another one."""
    rates = [[] for _ in sides]
    for turn in range(rounds):
        order = list(range(len(sides)))
        for number in order[turn % len(sides) :] + order[: turn % len(sides)]:
            use(sides[number])
            rates[number].append(load())
    return rates


def cells(rates):
    first = rates[0]
    yield f"{report.number(statistics.median(first))} /s"
    for others in rates[1:]:
        ratios = [report.times(rate, base) for rate, base in zip(others, first)]
        yield f"{statistics.median(ratios):.2f} [{min(ratios):.2f}, {max(ratios):.2f}]"


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", help="names of scenarios, separated by commas")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=int, default=2, help="a run")
    parser.add_argument("sides", nargs="+", help="NAME=FOLDER=BINDIR")
    chosen = parser.parse_args()
    sides = [side.split("=") for side in chosen.sides]
    known = scenarios(chosen.seconds)
    names = chosen.only.split(",") if chosen.only else list(known)
    if unknown := set(names) - set(known):
        parser.error(f"no scenario {', '.join(unknown)}; there are {', '.join(known)}")
    print(f"{chosen.rounds} rounds, {chosen.seconds} s a run\n")
    print("| scenario | load |", " | ".join(name for name, *_ in sides), "|")
    print("|" + "---|" * (2 + len(sides)))
    for scenario in names:
        for what, load in known[scenario].items():
            bench.say(f"{scenario}, {what} ...")
            rates = in_turn(chosen.rounds, sides, load)
            print(f"| {scenario} | {what} |", " | ".join(cells(rates)), "|", flush=True)


main()
