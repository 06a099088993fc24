"""What the figures were measured on."""

import datetime
import importlib.metadata
import os
import pathlib
import platform
import subprocess
import time

import server

SETTINGS = [
    "shared_buffers",
    "fsync",
    "synchronous_commit",
    "full_page_writes",
    "wal_level",
    "wal_sync_method",
    "max_wal_size",
    "checkpoint_timeout",
    "autovacuum",
    "max_connections",
    "shared_preload_libraries",
]


def facts(quick):
    return {
        "date": datetime.date.today().isoformat(),
        "machine": f"{cpu()}, {os.cpu_count()} cores, {memory_gib():.0f} GiB, "
        f"{platform.system()} {platform.release()}",
        "disk": f"{fsyncs_per_second():,.0f} fdatasync/s after 8 KiB" + slowed(),
        "load average before": f"{os.getloadavg()[0]:.1f}",
        "versions": f"PostgreSQL {server.value('SHOW server_version')}, flashsale {commit()}, "
        f"neveroversell {importlib.metadata.version('neveroversell')}",
        "settings": ", ".join(f"{name} = {server.value(f'SHOW {name}')}" for name in SETTINGS),
        "flashsale settings": ", ".join(
            f"{name.removeprefix('flashsale.')} = {text}"
            for name, text in server.sql(
                "SELECT name, current_setting(name) FROM pg_settings"
                " WHERE name LIKE 'flashsale.%' ORDER BY name"
            )
        ),
        "length": "quick" if quick else "full",
    }


def cpu():
    for line in pathlib.Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.split(":", 1)[1].strip()
    return platform.machine()


def memory_gib():
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30


def commit():
    version = server.value("SELECT extversion FROM pg_extension WHERE extname = 'flashsale'")
    done = subprocess.run(
        ["git", "describe", "--always", "--dirty"],
        check=False,
        capture_output=True,
        text=True,
        cwd=pathlib.Path(__file__).parent,
    )
    return f"{version} ({done.stdout.strip() or 'not in git'})"


def slowed():
    longer = os.environ.get("FLUSH_US")
    return f", each made {longer} µs longer" if longer else ""


def fsyncs_per_second(seconds=1.0):
    """Of the disk that the server's data lies on."""
    path = server.FOLDER / "fsync"
    with open(path, "wb", buffering=0) as file:
        calls, end = 0, time.monotonic() + seconds
        while time.monotonic() < end:
            file.seek(0)
            file.write(bytes(8192))
            os.fdatasync(file.fileno())
            calls += 1
    path.unlink()
    return calls / seconds
