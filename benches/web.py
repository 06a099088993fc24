"""Purchases over HTTP: the applications, each on a port of its own, and the load for them."""

import collections
import contextlib
import csv
import dataclasses
import os
import pathlib
import socket
import subprocess
import tempfile
import time
import urllib.request

import server

CONNECTIONS = 256
LONGEST_END = 30  # seconds for a program to end
SECRET = "the benchmark's secret, of 64 bytes or more, which nobody else has to know"


@dataclasses.dataclass
class Load:
    """Latencies are of the requests that sold, or where none did, of all, in ms."""

    statuses: dict
    seconds: float
    p50: float
    p99: float

    def sales(self):
        return self.statuses.get(200, 0)


def load(url, buyers, *, seconds):
    """Sends POST requests over 256 connections, each of which waits for its answer. `buyers` are the
    headers by which the application knows them. All requests of one oha are alike, so each buyer has
    one."""
    with tempfile.TemporaryDirectory() as folder:
        files = [pathlib.Path(folder) / str(number) for number in range(len(buyers))]
        began = time.monotonic()
        running = [
            start_load(url, buyer, CONNECTIONS // len(buyers), seconds, file)
            for buyer, file in zip(buyers, files)
        ]
        try:
            ends = [each.wait(seconds + LONGEST_END) for each in running]
            took = time.monotonic() - began
        finally:
            for each in running:
                each.kill()
        if any(ends):
            raise RuntimeError(f"{url}: the load ended with {ends}")
        answers = [row for file in files for row in csv.DictReader(file.open())]
    statuses = collections.Counter(int(row["status"]) for row in answers)
    counted = [row for row in answers if row["status"] == "200"] or answers
    times = sorted(float(row["request-duration"]) * 1_000 for row in counted)
    p50, p99 = (times[int(share * len(times))] for share in [0.5, 0.99])
    return Load(dict(statuses), took, p50, p99)


def start_load(url, buyer, connections, seconds, file):
    command = [os.environ["BENCH_OHA"], "--no-tui", "--worker-threads", "1", "-m", "POST"]
    command += ["-c", str(connections), "-z", f"{seconds}s", "--wait-ongoing-requests-after-deadline"]
    command += ["--output-format", "csv", "-o", str(file), "-H", buyer]
    return subprocess.Popen([*command, url])


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


@contextlib.contextmanager
def program(port, command, **environment):
    """A server for a while, once it accepts connections. What it writes is in the folder's log."""
    log = server.FOLDER / "programs.log"
    with open(log, "a") as file:
        running = subprocess.Popen(
            command, env=os.environ | environment, stdout=file, stderr=file, cwd=server.FOLDER
        )
    try:
        for _ in range(200):
            if running.poll() is not None:
                raise RuntimeError(f"{command} ended: {log.read_text()[-2_000:]}")
            with contextlib.suppress(ConnectionRefusedError):
                socket.create_connection(("127.0.0.1", port), timeout=10).close()
                break
            time.sleep(0.05)
        else:
            raise RuntimeError(f"{command} does not listen")
        yield
        if running.poll() is not None:
            raise RuntimeError(f"{command} ended: {log.read_text()[-2_000:]}")
    finally:
        running.terminate()
        try:
            running.wait(LONGEST_END)
        except subprocess.TimeoutExpired:
            running.kill()
            running.wait()
            raise RuntimeError(f"{command} does not end when it is told to") from None


@contextlib.contextmanager
def seed(solution, redis, pays):
    """One process, as Node.js is run; its URL."""
    port = free_port()
    environment = {
        "SOLUTION": str(solution),
        "PAYMENT": "instant" if pays else "none",
        "LISTEN": str(port),
        "REDIS": str(redis),
        "NODE_ENV": "production",
        "PGDATABASE": server.OURS,
    }
    with program(port, ["node", os.environ["BENCH_SEED"]], **environment):
        yield f"http://127.0.0.1:{port}"


@contextlib.contextmanager
def checkout(gather):
    """The example shop and the stand-in for its gateway, which answers at once; its URL."""
    make_roles()
    gateway, port = free_port(), free_port()
    keys = {"GATEWAY_SECRET_KEY": SECRET, "GATEWAY_WEBHOOK_SECRET": SECRET}
    with program(
        gateway,
        [os.environ["BENCH_GATEWAY"]],
        GATEWAY_LISTEN=f"127.0.0.1:{gateway}",
        GATEWAY_BOOK=str(server.FOLDER / "book.jsonl"),
        **keys,
    ), program(
        port,
        [os.environ["BENCH_CHECKOUT"]],
        LISTEN=f"127.0.0.1:{port}",
        DATABASE_URL=f"host={server.FOLDER} user=bench_app dbname={server.OURS}",
        OPERATOR_DATABASE_URL=f"host={server.FOLDER} user=bench_operator dbname={server.OURS}",
        GATHER_CONNECTIONS="2" if gather else "0",
        SHOP_ID="bench",
        STRIPE_API_BASE=f"http://127.0.0.1:{gateway}",
        STRIPE_SECRET_KEY=SECRET,
        STRIPE_WEBHOOK_SECRET=SECRET,
        SESSION_SECRET=SECRET,
        OPERATOR_KEY=SECRET,
        RUST_LOG="error",
    ):
        yield f"http://127.0.0.1:{port}"


def make_roles():
    for role, grant in [("bench_app", "grant_app"), ("bench_operator", "grant_operator")]:
        if not server.sql(f"SELECT 1 FROM pg_roles WHERE rolname = '{role}'"):
            server.sql(f"CREATE ROLE {role} LOGIN", f"SELECT flashsale.{grant}('{role}')")
    server.sql("ALTER ROLE bench_app SET flashsale.strategy = grouped")


def session(url):
    """The Cookie header of a new guest."""
    asked = urllib.request.Request(f"{url}/session", method="POST")
    with urllib.request.urlopen(asked, timeout=10) as answer:
        return "Cookie: " + answer.headers["Set-Cookie"].split(";")[0]
