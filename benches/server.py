"""The server under test: statements, settings, restarts, and a standby beside it."""

import contextlib
import os
import pathlib
import shutil
import subprocess
import time

DATA = pathlib.Path(os.environ["PG_DATA"])
LOG = os.environ["PG_LOG"]
FOLDER = DATA.parent  # belongs to the server's user and goes with the server
BIN = pathlib.Path(os.environ["PG_BINDIR"])
RUN_AS = os.environ["PG_RUN_AS"].split()
OURS = "flashsale"
NOS = "nos"


def sql(*statements, database=OURS, options=""):
    """Runs each statement in a transaction of its own and returns the last one's rows."""
    command = ["psql", "-XqAt", "-F", "\t", "-v", "ON_ERROR_STOP=1", "-d", database]
    for statement in statements:
        command += ["-c", statement]
    done = subprocess.run(
        command,
        check=False,
        env=os.environ | {"PGOPTIONS": options},
        capture_output=True,
        text=True,
    )
    if done.returncode != 0:
        raise RuntimeError(f"{statements}: {done.stderr}")
    return [line.split("\t") for line in done.stdout.splitlines()]


def value(statement, database=OURS):
    return sql(statement, database=database)[0][0]


def run_file(path, database=OURS, **variables):
    command = ["psql", "-Xq", "-v", "ON_ERROR_STOP=1", "-d", database, "-f", path]
    for name, text in variables.items():
        command += ["-v", f"{name}={text}"]
    subprocess.run(
        command,
        check=True,
        stdout=subprocess.DEVNULL,
        env=os.environ | {"PGOPTIONS": "-c client_min_messages=warning"},
    )


def as_server(program, *arguments):
    """Runs one of PostgreSQL's programs as the server's user."""
    subprocess.run(
        [*RUN_AS, BIN / program, *arguments],
        check=True,
        cwd=FOLDER,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )


def restart():
    as_server("pg_ctl", "-D", DATA, "-l", LOG, "-m", "fast", "-w", "restart")


@contextlib.contextmanager
def settings(restarting=False, **changes):
    """The server with other settings for a while; `__` in a name stands for a dot."""
    names = [name.replace("__", ".") for name in changes]
    apply = (
        restart if restarting else lambda: sql("SELECT pg_reload_conf()", "SELECT pg_sleep(0.2)")
    )
    sql(*(f"ALTER SYSTEM SET {name} = '{text}'" for name, text in zip(names, changes.values())))
    apply()
    try:
        yield
    finally:
        sql(*(f"ALTER SYSTEM RESET {name}" for name in names))
        apply()


@contextlib.contextmanager
def standby():
    """A synchronous standby; a commit is answered once it is applied there."""
    folder = FOLDER / "standby"
    as_server("pg_basebackup", "-D", folder, "-R", "-X", "stream", "-c", "fast", "-h", FOLDER)
    with open(folder / "postgresql.auto.conf", "a") as file:
        file.write("port = 5433\n")
    as_server("pg_ctl", "-D", folder, "-l", FOLDER / "standby.log", "-w", "start")
    try:
        with settings(synchronous_standby_names="*", synchronous_commit="remote_apply"):
            wait_for("SELECT count(*) = 1 FROM pg_stat_replication WHERE sync_state = 'sync'")
            yield
    finally:
        as_server("pg_ctl", "-D", folder, "-m", "immediate", "stop")
        shutil.rmtree(folder)


def wait_for(condition, seconds=20):
    for _ in range(seconds * 20):
        if value(condition) == "t":
            return
        time.sleep(0.05)
    raise RuntimeError(f"not within {seconds} s: {condition}")


class Session:
    """A connection that stays, driven through psql's standard input."""

    def __init__(self, database=OURS):
        self.psql = subprocess.Popen(
            ["psql", "-XqAt", "-v", "ON_ERROR_STOP=1", "-d", database],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def run(self, text):
        """Runs statements and returns the last row."""
        self.psql.stdin.write(f"{text};\n\\echo done\n")
        self.psql.stdin.flush()
        last = None
        for line in self.psql.stdout:
            if line == "done\n":
                return last
            last = line.rstrip("\n")
        raise RuntimeError("the session ended")

    def close(self):
        self.psql.stdin.close()
        self.psql.wait()


@contextlib.contextmanager
def session(database=OURS):
    opened = Session(database)
    try:
        yield opened
    finally:
        opened.close()


def private_dirty_kib(pid):
    """What a process has written of memory that it shares with nobody."""
    for line in pathlib.Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
        if line.startswith("Private_Dirty:"):
            return int(line.split()[1])
    raise RuntimeError(f"no Private_Dirty of {pid}")
