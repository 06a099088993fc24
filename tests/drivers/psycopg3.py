"""The scenarios with psycopg 3: psycopg3.py autocommit|transactions|pipeline|pool"""

import sys
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from uuid import UUID

import psycopg
from psycopg.types.json import Jsonb
from psycopg_pool import ConnectionPool

MODE = sys.argv[1]
AUTOCOMMIT = MODE in ("autocommit", "pipeline")
# Without prepare_threshold=None psycopg prepares a statement when it is executed for the sixth time.
OPTIONS = {"prepare_threshold": None, "autocommit": AUTOCOMMIT}
POOL = ConnectionPool("", kwargs=OPTIONS, min_size=2, open=False)
PURCHASE = "SELECT flashsale.purchase_item(%s, %s, %s, %s, %s)"


def connect() -> psycopg.Connection:
    return psycopg.connect("", **OPTIONS)


@contextmanager
def borrowed() -> Iterator[psycopg.Connection]:
    if MODE == "pool":
        with POOL.connection() as connection:  # commits at its end
            yield connection
    else:
        yield CONNECTION


def ask_over(connection, sql, *parameters):
    """The answer to one call, which is not committed yet unless the connection has autocommit."""
    if MODE == "pipeline":
        with connection.pipeline():
            return connection.execute(sql, parameters).fetchone()[0]
    return connection.execute(sql, parameters).fetchone()[0]


def ask(sql, *parameters):
    """The answer to one call that is a transaction of its own."""
    with borrowed() as connection:
        try:
            answer = ask_over(connection, sql, *parameters)
            connection.commit()
            return answer
        except psycopg.Error:
            connection.rollback()
            raise


def purchase(item, user, quantity=1, key=None, strategy=None):
    return ask(PURCHASE, item, user, quantity, key, strategy)


def new_item(units=10):
    return ask("SELECT flashsale.create_item(%s, unit_price => 500, currency => 'EUR')", units)


def free_units(item):
    return ask("SELECT flashsale.item_availability(%s)", item)["remaining_inventory"]


@contextmanager
def raises(state: str, message: str = "") -> Iterator[None]:
    try:
        yield
    except psycopg.Error as error:
        assert error.sqlstate == state, error
        assert error.diag.message_primary.startswith(message), error
        return
    raise AssertionError(f"no error {state}")


def test_purchase():
    item = new_item()
    answer = purchase(item, "alice")
    assert answer["success"] and answer["status"] == "reserved", answer
    with connect() as other:  # so it is committed
        query = "SELECT inventory FROM flashsale.items WHERE item_id = %s"
        assert other.execute(query, (item,)).fetchone()[0] == 9


def test_key():
    item = new_item()
    first, again = (purchase(item, "alice", key="basket") for _ in range(2))
    assert (first["replayed"], again["replayed"]) == (False, True)
    assert again["order_id"] == first["order_id"]
    assert free_units(item) == 9


def test_busy():
    item = new_item()
    with connect() as other, other.transaction():
        assert ask_over(other, PURCHASE, item, "bob", 1, None, None)["success"]
        refused = purchase(item, "alice")
        assert (refused["success"], refused["reason"], refused["retryable"]) == (False, "busy", True)
        assert refused["retry_after_ms"] > 0
    assert purchase(item, "alice")["success"]
    assert free_units(item) == 8


def test_sold_out():
    item = new_item(1)
    assert purchase(item, "alice")["success"]
    refused = purchase(item, "bob")
    assert (refused["reason"], refused["retryable"]) == ("out_of_stock", False)
    assert refused["remaining_inventory"] == 0


def test_payment():
    ref = purchase(new_item(), "alice", 2)["order_ref"]
    assert ask("SELECT flashsale.begin_payment(%s)", ref)["status"] == "paying"
    confirm = "SELECT flashsale.confirm_order(%s, %s, %s, %s)"
    assert ask(confirm, ref, f"charge {ref}", 1000, "EUR")["status"] == "confirmed"
    order = ask("SELECT flashsale.get_order(%s)", ref)
    assert (order["total"], order["payments"][0]["payment_ref"]) == (1000, f"charge {ref}")


def test_ref():
    answer = purchase(new_item(), "alice")
    ref, id = answer["order_ref"], answer["order_id"]
    assert ask("SELECT flashsale.get_order(%s)", ref)["order_id"] == id
    assert ask("SELECT flashsale.get_order(%s)", id)["order_ref"] == ref
    assert ask("SELECT flashsale.get_order(%s)", f"{id}-0000000000")["reason"] == "order_not_found"
    assert ask("SELECT flashsale.cancel_order(%s)", id)["restored"] == 1


def test_batch():
    item = new_item(2)
    requests = [{"item_id": item, "user_id": user} for user in ("alice", "bob", "carol")]
    answers = ask("SELECT flashsale.purchase_batch(%s)", Jsonb(requests))
    assert [answer["success"] for answer in answers] == [True, True, False]


def test_error():
    item = new_item()
    with raises("22023", "quantity is 0: it must be at least 1"):
        purchase(item, "alice", 0)
    assert purchase(item, "alice")["success"]


def test_transaction():
    item = new_item()
    with borrowed() as connection:
        with connection.transaction(force_rollback=True):
            refused = ask_over(connection, PURCHASE, item, "alice", 11, None, None)
            assert refused["reason"] == "out_of_stock"
            assert ask_over(connection, PURCHASE, item, "alice", 1, None, None)["success"]
    assert free_units(item) == 10
    if MODE == "pipeline":
        check_pipeline(item)


def check_pipeline(item):
    """Even with autocommit a pipeline is one transaction from sync to sync."""
    with raises("22023"), CONNECTION.pipeline() as pipeline:
        assert CONNECTION.execute(PURCHASE, (item, "alice", 1, None, None)).fetchone()[0]["success"]
        pipeline.sync()
        assert CONNECTION.execute(PURCHASE, (item, "bob", 1, None, None)).fetchone()[0]["success"]
        CONNECTION.execute(PURCHASE, (item, "carol", 0, None, None))
    assert free_units(item) == 9


def test_grouped():
    item = new_item()
    if not AUTOCOMMIT:  # psycopg begins a transaction before the call
        with raises("25001"):
            purchase(item, "alice", strategy="grouped")
    with borrowed() as connection:
        connection.autocommit = True
        assert ask_over(connection, PURCHASE, item, "alice", 1, None, "grouped")["status"] == "reserved"
        with raises("25001"), connection.transaction():
            ask_over(connection, PURCHASE, item, "alice", 1, None, "grouped")
        connection.autocommit = AUTOCOMMIT
    assert free_units(item) == 9


def test_serialization():
    item = new_item()
    begin = "BEGIN ISOLATION LEVEL REPEATABLE READ"
    with psycopg.connect("", prepare_threshold=None, autocommit=True) as connection:
        connection.execute(begin)
        connection.execute("SELECT FROM flashsale.items")
        assert purchase(item, "bob")["success"]
        with raises("40001"):
            ask_over(connection, PURCHASE, item, "alice", 1, None, None)
        connection.execute("ROLLBACK")
        connection.execute(begin)
        assert ask_over(connection, PURCHASE, item, "alice", 1, None, None)["success"]
        connection.execute("COMMIT")
    assert free_units(item) == 8


def test_repeated():
    item = new_item()

    def calls():
        for _ in range(10):
            assert purchase(item, "alice", key="basket")["success"]
        if MODE == "pipeline":  # without waiting for each answer
            with CONNECTION.pipeline():
                parameters = (item, "alice", 1, "basket", None)
                cursors = [CONNECTION.execute(PURCHASE, parameters) for _ in range(10)]
            assert all(cursor.fetchone()[0]["success"] for cursor in cursors)

    calls()
    with connect() as other, other.transaction():
        other.execute("SELECT")  # so the others go over another connection of a pooler
        calls()


def test_types():
    item = new_item()
    assert type(item) is int  # bigint
    answer = purchase(item, 42)
    assert type(answer) is dict and type(answer["order_id"]) is int and answer["success"] is True
    assert datetime.fromisoformat(answer["expires_at"]).tzinfo  # a text
    order = ask("SELECT flashsale.get_order(%s)", answer["order_ref"])
    assert (order["user_id"], order["idempotency_key"], order["paying_at"]) == ("42", None, None)
    uuid = UUID("6b29fc40-ca47-1067-b31d-00dd010662da")
    assert purchase(item, uuid)["success"]
    assert ask("SELECT flashsale.user_orders(%s)", str(uuid))["orders"][0]["item_id"] == item


if MODE == "pool":
    POOL.open(wait=True)
else:
    CONNECTION = connect()
for name, test in [item for item in globals().items() if item[0].startswith("test_")]:
    name = name.removeprefix("test_").replace("_", "-")
    try:
        test()
        print(f"ok {name}")
    except Exception:
        print(f"not ok {name}: {traceback.format_exc()}")
        sys.exit(1)  # a transaction may be open
POOL.close()
