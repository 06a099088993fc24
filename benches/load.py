"""Load from pgbench: a script, so many clients, so many seconds."""

import dataclasses
import os
import pathlib
import re
import subprocess
import tempfile

import server

SCRIPTS = pathlib.Path(__file__).with_name("sql")


@dataclasses.dataclass
class Load:
    transactions: int
    seconds: float
    log: list  # (completed at, in s; latency in ms) of each transaction, if asked for


class Running:
    """A pgbench at work."""

    def __init__(
        self,
        script,
        clients,
        *,
        seconds=None,
        transactions=None,
        rate=None,
        log=False,
        database=server.OURS,
        options="",
        **variables,
    ):
        self.folder = tempfile.TemporaryDirectory(prefix="pgbench.")
        command = [
            "pgbench",
            "-n",
            "-M",
            "prepared",
            "-f",
            SCRIPTS / script,
            "-c",
            str(clients),
            "-j",
            str(min(clients, 2)),
        ]
        # pgbench counts the time in which its clients connect, which many take a second for.
        command += ["-T", str(seconds + clients // 100)] if seconds else ["-t", str(transactions)]
        command += ["-R", str(rate)] if rate else []
        command += ["-l", "--log-prefix=log"] if log else []
        for name, number in variables.items():
            command += ["-D", f"{name}={number}"]
        self.seconds = seconds
        self.process = subprocess.Popen(
            command,
            cwd=self.folder.name,
            text=True,
            # Up to PostgreSQL 15 pgbench takes -d for debug.
            env=os.environ | {"PGOPTIONS": options, "PGDATABASE": database},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )

    def finish(self):
        out, err = self.process.communicate()
        with self.folder:
            if self.process.returncode != 0 or "aborted" in err:
                raise RuntimeError(f"pgbench failed: {err or out}")
            log = [
                entry
                for path in pathlib.Path(self.folder.name).iterdir()
                for entry in read_log(path)
            ]
        transactions = int(re.search(r"actually processed: (\d+)", out)[1])
        tps = re.search(r"^tps = ([\d.]+)", out, re.MULTILINE)
        # Without any transaction there is no such line.
        elapsed = transactions / float(tps[1]) if tps else self.seconds
        return Load(transactions, elapsed, sorted(log))


def read_log(path):
    with open(path) as file:
        for line in file:
            fields = line.split()
            yield int(fields[4]) + int(fields[5]) / 1e6, int(fields[2]) / 1e3


def pgbench(script, clients, **arguments):
    return Running(script, clients, **arguments).finish()


def percentile(log, share):
    latencies = sorted(latency for _, latency in log)
    return latencies[min(int(len(latencies) * share), len(latencies) - 1)]
