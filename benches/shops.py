"""The sellers: our strategies, the peers, and the ceilings.

A shop opens anew before each run, so that all start alike. What it sold is read from its
tables, and its books must balance, or the benchmark ends.
"""

import load
import server

UNITS = 2_000_000_000
PREFILLED = 1_000


class Shop:
    database = server.OURS

    def __init__(self, name, label):
        self.name = name
        self.label = label
        self.items = {}

    def start(self, clients, script=None, **arguments):
        return load.Running(
            script or f"{self.name}.sql",
            clients,
            database=self.database,
            **(self.items | arguments),
        )

    def load(self, clients, **arguments):
        return self.start(clients, **arguments).finish()

    def require(self, holds, what):
        if not holds:
            raise RuntimeError(f"{self.label}: {what}")


class Ours(Shop):
    def open(self, items=1, units=UNITS):
        """Ids go on from shop to shop, so the gate knows none of the new items."""
        first, last = server.sql(
            "TRUNCATE flashsale.orders, flashsale.payments",
            "TRUNCATE flashsale.items, flashsale.stock_movements",
            f"SELECT min(id), max(id) FROM (SELECT flashsale.create_item({units}) id"
            f" FROM generate_series(1, {items}) OFFSET 0) made",
        )[0]
        server.sql("CHECKPOINT")
        self.items = {"first": int(first), "last": int(last)}

    def sold(self):
        sold, held = server.sql(
            "SELECT coalesce(sum(stock - inventory), 0),"
            " (SELECT coalesce(sum(units_held), 0) FROM flashsale.orders) FROM flashsale.items"
        )[0]
        self.require(sold == held, f"{sold} units are gone and {held} held")
        broken = server.sql("SELECT * FROM flashsale.audit() LIMIT 5")
        self.require(not broken, f"audit: {broken}")
        return int(sold)


class NullGroup(Ours):
    """The queue and the seller without a table: what grouped would sell if that cost nothing.

    An answer counts as a sale.
    """

    def load(self, clients, **arguments):
        with server.settings(flashsale__debug_null_group="on"):
            return super().load(clients, **arguments)

    def sold(self):
        units = super().sold()
        self.require(units == 0, f"{units} units are sold")


class Peer(Shop):
    def __init__(self, name, label, stock="peer.items"):
        super().__init__(name, label)
        self.stock = stock

    def open(self, items=1, units=UNITS):
        server.sql(f"SELECT peer.open({items}, {units})", "CHECKPOINT")
        self.items = {"first": 1, "last": items}
        self.supplied = items * units

    def sold(self):
        left, sold = map(
            int,
            server.sql(
                f"SELECT (SELECT sum(inventory) FROM {self.stock}),"
                " (SELECT count(*) FROM peer.orders)"
            )[0],
        )
        self.require(
            left + sold == self.supplied, f"{left} units left and {sold} sold of {self.supplied}"
        )
        return sold


class NeverOversell(Shop):
    """Opens with some holds and with statistics: planned on empty tables, each call would
    read all holds of its item to find those that are due."""

    database = server.NOS

    def open(self, items=1, units=UNITS):
        prefilled = min(PREFILLED, units)
        server.sql(
            "TRUNCATE nos_holds, nos_hold_events, nos_resources",
            "INSERT INTO nos_resources (id, total)"
            f" SELECT 'item ' || id, {units} FROM generate_series(1, {items}) id",
            "INSERT INTO nos_holds (resource_id, account_id, qty, expires_at)"
            f" SELECT 'item ' || 1 + n % {items}, 'user ' || n, 1, now() + interval '1 day'"
            f" FROM generate_series(1, {prefilled}) n",
            "UPDATE nos_resources SET held ="
            " (SELECT count(*) FROM nos_holds WHERE resource_id = nos_resources.id)",
            "ANALYZE nos_holds, nos_hold_events, nos_resources",
            "CHECKPOINT",
            database=self.database,
        )
        self.items = {"first": 1, "last": items}
        self.prefilled = prefilled

    def sold(self):
        held, drift = server.sql(
            "SELECT sum(held_by_rows), count(*) FILTER (WHERE drift) FROM nos_check()",
            database=self.database,
        )[0]
        self.require(drift == "0", "its counters have drifted")
        return int(held) - self.prefilled


class Ceiling(Shop):
    """Sells nothing: an answer counts as a sale."""

    def open(self, items=1, units=UNITS):
        self.items = {"first": 1, "last": items}

    def sold(self):
        return None


GROUPED = Ours("grouped", "grouped")
NOWAIT = Ours("nowait", "nowait")
OPTIMISTIC = Ours("optimistic", "optimistic")
ATOMIC = Ours("atomic", "atomic")
SEED1_TRIPS = Peer("seed1_trips", "seed 1, round trips")
SEED2_TRIPS = Peer("seed2_trips", "seed 2, round trips")
SEED3_TRIPS = Peer("seed3_trips", "seed 3, round trips")
SEED1 = Peer("seed1", "seed 1, PL/pgSQL")
SEED2 = Peer("seed2", "seed 2, PL/pgSQL")
SEED3 = Peer("seed3", "conditional UPDATE")
BARE = Peer("bare", "seed 1, three bare statements")
SUBROWS = Peer("subrows", "32 sub-rows", stock="peer.parts")
NEVEROVERSELL = NeverOversell("neveroversell", "neveroversell")
EMPTY = Ceiling("empty", "empty function")
SELECT1 = Ceiling("select1", "SELECT 1")
NULL_GROUP = NullGroup("grouped", "null group")

OURS = [GROUPED, NOWAIT, OPTIMISTIC, ATOMIC]
PEERS = [SEED1_TRIPS, SEED2_TRIPS, SEED3_TRIPS, SEED1, SEED2, SEED3, SUBROWS, NEVEROVERSELL]
CEILINGS = [EMPTY, SELECT1]
