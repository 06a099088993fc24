"""With one synchronous standby on the same machine, a purchase is answered once applied there."""

import server
from bench import rates
from report import against
from shops import GROUPED, SEED3


def run(size):
    with server.standby():
        sold = rates(size.rounds, [GROUPED, SEED3], 64, seconds=size.seconds)
    what = "grouped, 64 clients, remote_apply"
    yield against("standby", what, sold[GROUPED], "/s", sold[SEED3], SEED3.label, 40)
