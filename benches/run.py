"""Measures everything, or with --only some of it, on the server that is in the environment.

Prints one table; with --save DIR leaves table.md, results.json and hot.svg there. If anything was
oversold or lost, it measures the rest, saves nothing and ends with an error; not if a bar was missed.
"""

import argparse
import pathlib
import signal
import sys
import time

import bench
import machine
import peers
import report
from scenarios import SCENARIOS, hot


def arguments():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="all of it, shortened")
    parser.add_argument("--only", help="names of scenarios, separated by commas")
    parser.add_argument("--save", type=pathlib.Path, help="folder for the results")
    parser.add_argument("--plot", type=pathlib.Path, help="file for the plot")
    chosen = parser.parse_args()
    names = chosen.only.split(",") if chosen.only else list(SCENARIOS)
    unknown = set(names) - set(SCENARIOS)
    if unknown:
        parser.error(f"no scenario {', '.join(unknown)}; there are {', '.join(SCENARIOS)}")
    return chosen, names


def measure(names, size):
    """The rows of all scenarios, and what went wrong in those that ended with an error."""
    rows, failures = [], []
    for name in names:
        began = time.monotonic()
        print(f"{name} ...", file=sys.stderr, flush=True)
        try:
            rows += SCENARIOS[name].run(size)
        except RuntimeError as error:
            failures.append(f"{name}: {error}")
        print(f"{name}: {time.monotonic() - began:.0f} s", file=sys.stderr, flush=True)
    return rows, failures


def main():
    chosen, names = arguments()
    # So that what was started is stopped.
    for number in [signal.SIGTERM, signal.SIGHUP]:
        signal.signal(number, lambda number, _: sys.exit(128 + number))
    peers.install()
    facts = machine.facts(quick=chosen.quick)
    rows, failures = measure(names, bench.QUICK if chosen.quick else bench.FULL)
    text = "\n".join(
        [*(f"- {name}: {fact}" for name, fact in facts.items()), "", report.table(rows)]
    )
    print(text)
    if failures:
        sys.exit("\n".join(failures))
    lines = hot.lines(rows)
    if chosen.save:
        chosen.save.mkdir(parents=True, exist_ok=True)
        (chosen.save / "table.md").write_text(text + "\n")
        (chosen.save / "results.json").write_text(report.as_json(facts, rows))
    for plot in [chosen.plot, chosen.save and chosen.save / "hot.svg"] if lines else []:
        if plot:
            report.plot(lines, plot)
            print(f"plot: {plot}")


main()
