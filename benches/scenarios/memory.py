"""Memory: shared, of a backend that buys, and of the seller."""

import server
from bench import sell
from report import Row
from shops import GROUPED, NOWAIT

LIMIT_MIB = 2


def run(size):
    shared = int(
        server.value(
            "SELECT sum(allocated_size) FROM pg_shmem_allocations WHERE name LIKE 'flashsale%'"
        )
    )
    yield limited("shared", shared / 2**20)
    for shop in [NOWAIT, GROUPED]:
        yield limited(
            f"backend after {size.lifetime:,} purchases, {shop.name}, above one that never bought",
            buyer_mib(shop, size.lifetime),
        )
    before, after = seller_kib(size.seconds), seller_kib(size.seconds)
    yield Row(
        "memory",
        "seller, growth from one run at 64 clients to the next",
        (after - before) / 1024,
        "MiB",
        "≤ 0.1 MiB",
        met=after - before <= 102,
    )


def limited(what, mib):
    return Row("memory", what, mib, "MiB", f"≤ {LIMIT_MIB} MiB", met=mib <= LIMIT_MIB)


def buyer_mib(shop, purchases):
    """Each purchase is a transaction of its own."""
    shop.open()
    call = (
        f"SELECT flashsale.purchase_item({shop.items['first']}, 'user', strategy => '{shop.name}')"
    )
    with server.session() as idle, server.session() as buyer:
        buyer.run("SET synchronous_commit = off")
        for _ in range(purchases):
            buyer.run(call)
        used = [
            server.private_dirty_kib(one.run("SELECT pg_backend_pid()")) for one in [buyer, idle]
        ]
    shop.require(shop.sold() == purchases, "not all were sold")
    return (used[0] - used[1]) / 1024


def seller_kib(seconds):
    sell(GROUPED, 64, seconds=seconds)
    return server.private_dirty_kib(
        server.value("SELECT pid FROM pg_stat_activity WHERE backend_type = 'flashsale seller'")
    )
