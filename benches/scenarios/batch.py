"""purchase_batch: 64 purchases a call, over 2 and over 8 connections."""

import functools
import itertools
import json

import server
from bench import interleaved, median_rates, sell
from report import Row, against
from shops import SEED3, Ours

REQUESTS = 64
USER = "somebody"


class Batch(Ours):
    """Busy purchases count for nothing and are not repeated: the next call has others."""

    def start(self, clients, **arguments):
        script = server.FOLDER / "batch.sql"
        requests = json.dumps(
            [{"item_id": self.items["first"], "user_id": f"{USER} {n}"} for n in range(REQUESTS)]
        )
        script.write_text(
            "\\set user random(1, 2000000000)\n"
            "SELECT flashsale.purchase_batch("
            f"replace('{requests}', '{USER}', 'user ' || :user)::jsonb);\n"
        )
        return super().start(clients, script=script, **arguments)


BATCH = Batch("batch", "purchase_batch")


def run(size):
    runs = {SEED3: functools.partial(sell, SEED3, 64, seconds=size.seconds)}
    for connections, strategy in itertools.product([2, 8], ["nowait", "atomic", "grouped"]):
        runs[connections, strategy] = functools.partial(
            sell,
            BATCH,
            connections,
            seconds=size.seconds,
            options=f"-c flashsale.strategy={strategy}",
        )
    sales = interleaved(size.rounds, runs)
    for connections in [2, 8]:
        runs_of = sales[connections, "grouped"]
        busy = sum(REQUESTS * sale.load.transactions - sale.sold for sale in runs_of)
        what = f"busy units, {connections} connections, grouped"
        yield Row("batch", what, busy, "", "none", met=busy == 0)
    rates = median_rates(sales)
    base = rates.pop(SEED3)
    yield against(
        "batch",
        "64 in a call, 8 connections, grouped",
        rates[8, "grouped"],
        "/s",
        rates[2, "grouped"],
        "2 connections",
        0.9,
    )
    for (connections, strategy), rate in rates.items():
        what = f"64 in a call, {connections} connections, {strategy}"
        yield against("batch", what, rate, "/s", base, "conditional UPDATE at 64", 80)
