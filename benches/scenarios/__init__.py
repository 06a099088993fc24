"""The scenarios, by name, in the order they run."""

from . import (
    access,
    batch,
    bystanders,
    dead_orders,
    expiry,
    hot,
    libraries,
    many_items,
    memory,
    mix,
    old_snapshot,
    rush,
    sold_out,
    standby,
    wal,
    with_redis,
)

SCENARIOS = {
    "access": access,
    "hot": hot,
    "batch": batch,
    "libraries": libraries,
    "mix": mix,
    "sold-out": sold_out,
    "many-items": many_items,
    "rush": rush,
    "bystanders": bystanders,
    "old-snapshot": old_snapshot,
    "dead-orders": dead_orders,
    "expiry": expiry,
    "wal": wal,
    "memory": memory,
    "standby": standby,
    "with-redis": with_redis,
}
