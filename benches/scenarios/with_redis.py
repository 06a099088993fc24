"""A whole purchase with a lock in Redis, and one of ours, from the same client."""

import contextlib
import subprocess
import time

import server
from bench import client, interleaved, medians, say
from report import Row, times
from shops import GROUPED


def run(size):
    GROUPED.open()
    with redis() as socket:
        runs = {
            "seed 1 with Redis": lambda: loop(size, "seed1", "--redis", socket),
            "grouped": lambda: loop(size, "purchase", "--strategy", "grouped"),
            "nowait": lambda: loop(size, "purchase", "--strategy", "nowait"),
        }
        told = interleaved(size.rounds, runs)
    GROUPED.sold()
    rates = medians({label: [rate for rate, _ in runs] for label, runs in told.items()})
    p99s = medians({label: [p99 for _, p99 in runs] for label, runs in told.items()})
    for label, rate in rates.items():
        ratio = times(rate, rates["seed 1 with Redis"])
        yield Row("with-redis", f"{label}, 64 clients, async client", rate, "/s", ratio=ratio)
        what = "... p99 of a purchase, its retries included"
        yield Row("with-redis", what, p99s[label], "ms")


def loop(size, command, *options):
    """64 clients, each of which buys again as soon as it has bought."""
    told = client(command, "--clients", 64, "--seconds", size.seconds, *options)
    say(f"{' '.join(map(str, [command, *options]))}: {told['per_second']:,.0f}/s")
    return told["per_second"], told["p99_ms"]


@contextlib.contextmanager
def redis():
    """A Redis of our own, reachable only through a socket, that writes nothing to disk."""
    socket = server.FOLDER / "redis"
    settings = {"port": "0", "unixsocket": str(socket), "save": "", "appendonly": "no"}
    command = ["redis-server"]
    for name, text in settings.items():
        command += [f"--{name}", text]
    running = subprocess.Popen(command, stdout=subprocess.DEVNULL)
    try:
        for _ in range(200):
            if socket.exists():
                break
            if running.poll() is not None:
                raise RuntimeError("redis-server ended")
            time.sleep(0.05)
        else:
            raise RuntimeError("redis-server does not listen")
        yield socket
    finally:
        running.kill()  # it keeps nothing
        running.wait()
