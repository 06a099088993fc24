"""purchase_batch: 64 purchases a call, over 2 and over 8 connections."""

import functools
import itertools
import json

import server
from bench import interleaved, median_rates, sell
from report import against
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
    for connections, strategy in itertools.product([2, 8], ["nowait", "atomic"]):
        runs[f"{connections} connections, {strategy}"] = functools.partial(
            sell,
            BATCH,
            connections,
            seconds=size.seconds,
            options=f"-c flashsale.strategy={strategy}",
        )
    rates = median_rates(interleaved(size.rounds, runs))
    base = rates.pop(SEED3)
    for what, rate in rates.items():
        yield against(
            "batch", f"64 in a call, {what}", rate, "/s", base, "conditional UPDATE at 64", 80
        )
