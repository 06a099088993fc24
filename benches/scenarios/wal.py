"""WAL per purchase, full-page images excluded."""

import server
from bench import say
from report import against
from shops import GROUPED, NOWAIT


def run(size):
    server.sql("CREATE EXTENSION IF NOT EXISTS pg_walinspect")
    grouped, nowait = (bytes_per_purchase(shop, size.seconds) for shop in [GROUPED, NOWAIT])
    yield against(
        "wal", "grouped, 64 clients", grouped, "bytes/purchase", nowait, "nowait's", at_most=0.7
    )


def bytes_per_purchase(shop, seconds):
    """From when the shop has opened, so that opening it does not count."""
    shop.open()
    start = server.value("SELECT pg_current_wal_insert_lsn()")
    shop.load(64, seconds=seconds)
    sold = shop.sold()
    written = server.value(
        f"SELECT sum(record_size) FROM pg_get_wal_stats('{start}', pg_current_wal_flush_lsn())"
    )
    say(f"WAL, {shop.label}: {float(written) / sold:,.0f} bytes a purchase")
    return float(written) / sold
