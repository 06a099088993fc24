"""What the tests share. The server is in the environment (PGHOST, PGPORT, ...), directly or behind
a pooler, and has flashsale.lock_wait = 60s."""

import asyncio
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

import psycopg
from psycopg import AsyncConnection, AsyncCursor, Connection

import flashsale_client as flashsale

T = TypeVar("T")
PATIENCE = 60.0  # seconds; bounds every wait, and nothing should come near it


def open_connection() -> Connection[Any]:
    return psycopg.connect("", autocommit=True)


async def open_async() -> AsyncConnection[Any]:
    return await AsyncConnection.connect("", autocommit=True)


def ask(call: flashsale.Call[T]) -> T:
    """Makes one call on a connection of its own."""
    with open_connection() as connection:
        return flashsale.run(connection, call)


def value(sql: str, *arguments: Any) -> Any:
    with open_connection() as connection:
        row = connection.execute(sql, arguments, prepare=False).fetchone()
        assert row is not None
        return row[0]


def free_units(item_id: int) -> int:
    answer = ask(flashsale.item_availability(item_id))
    assert answer.success
    return answer.remaining_inventory


def lock(connection: Connection[Any], item_id: int) -> None:
    statement = "SELECT FROM flashsale.items WHERE item_id = %s FOR UPDATE"
    connection.execute(statement, (item_id,), prepare=False)


@contextmanager
def locked(item_id: int) -> Iterator[Callable[[], None]]:
    """Holds the item's row, until the given function is called or the block ends."""
    with open_connection() as connection:
        connection.execute("BEGIN", prepare=False)
        lock(connection, item_id)
        try:
            yield lambda: connection.rollback()
        finally:
            connection.rollback()


WAITING = "FROM pg_stat_activity WHERE query LIKE '%%flashsale.purchase%%' AND wait_event_type = 'Lock'"


WAITING_FOR_ITEMS = WAITING.replace("purchase", "items")


def calls_that_wait() -> int:
    count: int = value(f"SELECT count(*) {WAITING}")
    return count


def kill_calls_that_wait() -> int:
    killed: int = value(f"SELECT count(pg_terminate_backend(pid, 60000)) {WAITING}")
    return killed


def cancel_calls_that_wait() -> int:
    cancelled: int = value(f"SELECT count(*) FILTER (WHERE pg_cancel_backend(pid)) {WAITING}")
    return cancelled


def now() -> Any:
    """The server's time."""
    return value("SELECT clock_timestamp()")


def until_asked_again(since: Any) -> None:
    """Until a call that began later waits for a lock."""
    until(lambda: value(f"SELECT count(*) {WAITING} AND query_start > %s", since) > 0)


class CountingCursor(AsyncCursor[Any]):
    answers = 0  # of all cursors

    async def execute(self, *arguments: Any, **options: Any) -> Any:
        executed = await super().execute(*arguments, **options)
        CountingCursor.answers += 1
        return executed


@contextmanager
def trigger(condition: str, state: str) -> Iterator[None]:
    """Orders that meet the condition raise an error with this SQLSTATE, until the block ends.
    `nextval('public.tries')` counts from 1; see `until_tried`."""
    with open_connection() as shop:
        shop.execute(
            f"""CREATE SEQUENCE public.tries;
            CREATE FUNCTION no_cursed() RETURNS trigger LANGUAGE plpgsql AS $$
            BEGIN
              IF {condition} THEN RAISE 'not this one' USING ERRCODE = '{state}'; END IF;
              RETURN NEW;
            END $$;
            CREATE TRIGGER no_cursed BEFORE INSERT ON flashsale.orders
            FOR EACH ROW EXECUTE FUNCTION no_cursed()"""
        )
        try:
            yield
        finally:
            shop.execute("DROP FUNCTION no_cursed CASCADE; DROP SEQUENCE public.tries")


def until_tried() -> None:
    until(lambda: bool(value("SELECT is_called FROM public.tries")))


def until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < deadline, "in vain"
        time.sleep(0.01)


async def until_async(condition: Callable[[], bool]) -> None:
    await asyncio.to_thread(until, condition)
