"""One hot item: every strategy, peer and ceiling from 1 to 200 clients."""

from bench import interleaved, median_p99, median_rates, sell
from report import Row, against
from shops import (
    CEILINGS,
    EMPTY,
    GROUPED,
    NEVEROVERSELL,
    NOWAIT,
    NULL_GROUP,
    OURS,
    PEERS,
    SEED3,
    SUBROWS,
)

# Points that a bar needs, several runs each.
BARRED = [
    (GROUPED, 1),
    (NOWAIT, 1),
    (GROUPED, 16),
    (SEED3, 16),
    (GROUPED, 64),
    (SEED3, 64),
    (SUBROWS, 64),
    (NEVEROVERSELL, 64),
    (EMPTY, 64),
    (GROUPED, 200),
    (NULL_GROUP, 16),
    (NULL_GROUP, 64),
    (NULL_GROUP, 200),
]


def run(size):
    def sale(shop, clients):
        return lambda: sell(shop, clients, seconds=size.seconds, log=clients == 64)

    sales = interleaved(size.rounds, {point: sale(*point) for point in BARRED})
    others = {
        (shop, clients): sale(shop, clients)
        for shop in OURS + PEERS + CEILINGS
        for clients in size.clients
        if (shop, clients) not in sales
    }
    rates = median_rates(sales | interleaved(1, others))
    p99 = {shop: median_p99(sales[shop, 64]) for shop in [GROUPED, SEED3]}
    yield from barred(rates, p99)
    yield at_their_best(rates, size.clients)
    for shop in OURS + PEERS + CEILINGS:
        points = {clients: rates[shop, clients] for clients in size.clients}
        yield Row("hot", f"{shop.label} at {clients_of(points)}", points[64], "/s", points=points)


def clients_of(points):
    *most, last = map(str, points)
    return f"{', '.join(most)} and {last}"


def lines(rows):
    """What the plot shows, by kind and label."""
    kinds = {"ours": OURS, "peer": PEERS, "ceiling": CEILINGS}
    points = [row.points for row in rows if row.points]
    return dict(
        zip(((kind, shop.label) for kind, shops in kinds.items() for shop in shops), points)
    )


def at_their_best(rates, clients):
    def best(shop):
        return max(clients, key=lambda count: rates[shop, count])

    ours, theirs = best(GROUPED), best(SUBROWS)
    return against(
        "hot",
        f"grouped at its best, {ours}",
        rates[GROUPED, ours],
        "/s",
        rates[SUBROWS, theirs],
        f"32 sub-rows at their best, {theirs}",
        2,
    )


def barred(rates, p99):
    def compare(shop, clients, base, base_clients, least):
        return against(
            "hot",
            f"{shop.label} at {clients}",
            rates[shop, clients],
            "/s",
            rates[base, base_clients],
            f"{base.label} at {base_clients}",
            least,
        )

    yield compare(GROUPED, 64, SEED3, 64, 25)
    yield compare(GROUPED, 64, NEVEROVERSELL, 64, 40)
    yield compare(GROUPED, 64, SUBROWS, 64, 3.5)
    yield compare(GROUPED, 64, EMPTY, 64, 0.5)
    yield compare(GROUPED, 16, SEED3, 16, 5)
    yield compare(GROUPED, 16, NULL_GROUP, 16, 0.45)
    yield compare(GROUPED, 64, NULL_GROUP, 64, 0.65)
    yield compare(GROUPED, 200, NULL_GROUP, 200, 0.85)
    yield compare(GROUPED, 200, GROUPED, 64, 0.95)
    yield compare(GROUPED, 1, NOWAIT, 1, 0.7)
    yield against(
        "hot",
        "grouped at 64, p99",
        p99[GROUPED],
        "ms",
        p99[SEED3],
        "conditional UPDATE's",
        at_most=0.1,
    )
