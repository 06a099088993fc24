"""Sets the peers up: theirs in the database of ours, neveroversell in its own."""

import importlib.resources
import os
import pathlib

import server


def install():
    server.run_file(
        pathlib.Path(__file__).with_name("sql") / "peers.sql",
        empty_library=os.environ["EMPTY_LIBRARY"],
    )
    server.sql("CREATE DATABASE nos")
    scripts = importlib.resources.files("neveroversell") / "sql"
    for script in sorted(scripts.iterdir(), key=lambda path: path.name):
        server.run_file(script, server.NOS)
    # As eager for the hot row as the tables of the others.
    server.sql(
        "ALTER TABLE nos_resources SET (fillfactor = 50,"
        " autovacuum_vacuum_scale_factor = 0.0, autovacuum_vacuum_threshold = 1000)",
        database=server.NOS,
    )
