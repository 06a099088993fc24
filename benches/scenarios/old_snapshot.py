"""Grouped purchases while another session holds an old snapshot, so that no dead row can be pruned."""

import server
from bench import say
from report import against
from shops import GROUPED

CLIENTS = 64


def run(size):
    GROUPED.open()
    with server.session() as reader:
        reader.run("BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT count(*) FROM flashsale.items")
        # Some more, since the clients end one by one.
        done = GROUPED.load(
            CLIENTS, transactions=size.held_snapshot * 11 // 10 // CLIENTS, log=True
        )
        reader.run("COMMIT")
    GROUPED.sold()
    ends = [at for at, _ in done.log][: size.held_snapshot]
    tenth = len(ends) // 10
    first, last = (tenth / (part[-1] - part[0]) for part in [ends[:tenth], ends[-tenth:]])
    say(f"old snapshot: {first:,.0f}/s, then {last:,.0f}/s")
    yield against(
        "old-snapshot",
        f"grouped, last tenth of {size.held_snapshot:,} purchases",
        last,
        "/s",
        first,
        "the first tenth",
        0.8,
    )
