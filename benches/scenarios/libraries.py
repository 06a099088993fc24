"""The gatherers of the Python and the Node client against single calls of the same client."""

import functools
import json
import os
import pathlib
import statistics
import subprocess

from bench import interleaved, say
from report import Row, against
from shops import GROUPED

CLICKS = pathlib.Path(__file__).parents[1] / "clicks"
# Built by scripts/build-clients.
LIBRARIES = pathlib.Path(os.environ["FLASHSALE_HOME"]) / "libraries"
PROGRAMS = {
    "Python": [LIBRARIES / "venv/bin/python", CLICKS / "clicks.py"],
    "Node": ["node", CLICKS / "clicks.js"],
}
USERS = {"single": 64, "gathered": 512}
AT_LEAST = 5


def run(size):
    for language in PROGRAMS:
        runs = {how: functools.partial(clicks, size, language, how) for how in USERS}
        told = interleaved(size.rounds, runs)
        rates = {how: statistics.median(each["per_second"] for each in told[how]) for how in USERS}
        what = f"{language}: {USERS['single']} users, each with a connection, single calls, `grouped`"
        yield Row("libraries", what, rates["single"], "/s")
        what = f"{language}: clicks of {USERS['gathered']} users gathered, 2 connections"
        yield against(
            "libraries", what, rates["gathered"], "/s", rates["single"], "single calls", AT_LEAST
        )
        p99 = statistics.median(each["p99_ms"] for each in told["gathered"])
        yield Row("libraries", "... p99 of a click", p99, "ms")


def clicks(size, language, how):
    """One run, whose clicks must be those that the shop sold."""
    GROUPED.open()
    arguments = [how, GROUPED.items["first"], USERS[how], size.seconds]
    done = subprocess.run(
        [*PROGRAMS[language], *map(str, arguments)],
        check=False,
        capture_output=True,
        text=True,
        env=os.environ | {"CLIENT": str(LIBRARIES / "clients/node")},
    )
    if done.returncode != 0:
        raise RuntimeError(f"{language} {arguments}: {done.stderr}")
    told = json.loads(done.stdout)
    GROUPED.require(GROUPED.sold() == told["bought"], f"{told['bought']} were bought")
    say(f"{language}, {how}: {told['per_second']:,.0f}/s")
    return told
