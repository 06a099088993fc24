"""Purchases with retry: after `busy`, over lost connections, up to a deadline."""

import threading
import unittest
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from typing import Any

import psycopg
from psycopg import AsyncConnection, Connection

import flashsale_client as flashsale
from shop import (
    PATIENCE,
    ask,
    calls_that_wait,
    cancel_calls_that_wait,
    free_units,
    kill_calls_that_wait,
    locked,
    open_async,
    open_connection,
    until,
)


class AnswersGetLost:
    """Connections that close before the answer is passed on, `times` times."""

    def __init__(self, times: int) -> None:
        self.times = times
        self.tries = 0

    @contextmanager
    def connection(self) -> Iterator[Connection[Any]]:
        self.tries += 1
        with open_connection() as connection:
            yield connection
            if self.tries <= self.times:
                connection.close()
                connection.execute("SELECT 1")  # raises the driver's error

    @asynccontextmanager
    async def async_connection(self) -> AsyncIterator[AsyncConnection[Any]]:
        self.tries += 1
        async with await open_async() as connection:
            yield connection
            if self.tries <= self.times:
                await connection.close()
                await connection.execute("SELECT 1")


class Retry(unittest.IsolatedAsyncioTestCase):
    def setUp(self) -> None:
        self.item = ask(flashsale.create_item(10))

    def test_busy_is_tried_again(self) -> None:
        call = flashsale.purchase_item(self.item, "alice", strategy="nowait")
        with locked(self.item) as release:
            threading.Timer(0.1, release).start()
            answer = flashsale.run_with_retry(open_connection, call, within=PATIENCE)
        self.assertTrue(answer.success)
        self.assertEqual(free_units(self.item), 9)

    def test_after_the_deadline_the_last_refusal_is_the_answer(self) -> None:
        call = flashsale.purchase_item(self.item, "alice", strategy="nowait")
        with locked(self.item):
            answer = flashsale.run_with_retry(open_connection, call, within=0.2)
        assert not answer.success
        self.assertEqual(answer.reason, "busy")

    def test_a_lost_answer_is_asked_for_with_the_same_key(self) -> None:
        lossy = AnswersGetLost(times=2)
        call = flashsale.purchase_item(self.item, "bob", idempotency_key="basket 1")
        answer = flashsale.run_with_retry(lossy.connection, call, within=PATIENCE)
        assert answer.success
        self.assertTrue(answer.replayed)
        self.assertEqual(lossy.tries, 3)
        self.assertEqual(free_units(self.item), 9)

    async def test_a_lost_answer_in_asyncio(self) -> None:
        lossy = AnswersGetLost(times=1)
        call = flashsale.purchase_item(self.item, "bob", idempotency_key="basket 1")
        answer = await flashsale.run_with_retry_async(
            lossy.async_connection, call, within=PATIENCE
        )
        assert answer.success
        self.assertTrue(answer.replayed)

    def test_without_a_key_the_outcome_is_unknown(self) -> None:
        lossy = AnswersGetLost(times=1)
        with self.assertRaises(flashsale.OutcomeUnknown) as raised:
            flashsale.run_with_retry(lossy.connection, flashsale.purchase_item(self.item, "carol"))
        self.assertIsInstance(raised.exception.__cause__, psycopg.OperationalError)
        self.assertEqual((lossy.tries, free_units(self.item)), (1, 9))

    def test_the_outcome_stays_unknown_if_all_answers_get_lost(self) -> None:
        lossy = AnswersGetLost(times=1000)
        call = flashsale.purchase_item(self.item, "dave", idempotency_key="basket 1")
        with self.assertRaises(flashsale.OutcomeUnknown):
            flashsale.run_with_retry(lossy.connection, call, within=0.3)
        self.assertEqual(free_units(self.item), 9)

    def test_a_killed_session(self) -> None:
        call = flashsale.purchase_item(self.item, "erin", idempotency_key="b", strategy="atomic")
        answers: list[flashsale.Reservation | flashsale.Refusal] = []

        def buy() -> None:
            answers.append(flashsale.run_with_retry(open_connection, call, within=PATIENCE))

        with locked(self.item):
            buyer = threading.Thread(target=buy)
            buyer.start()
            until(lambda: calls_that_wait() > 0)
            self.assertEqual(kill_calls_that_wait(), 1)
        buyer.join(PATIENCE)
        self.assertTrue(answers[0].success)
        self.assertEqual(free_units(self.item), 9)

    def test_a_cancelled_call(self) -> None:  # as by statement_timeout
        def buy(key: str | None) -> None:
            call = flashsale.purchase_item(
                self.item, "erin", idempotency_key=key, strategy="atomic"
            )
            try:
                outcomes[key] = flashsale.run_with_retry(open_connection, call, within=PATIENCE)
            except flashsale.OutcomeUnknown as error:
                outcomes[key] = error

        outcomes: dict[str | None, object] = {}
        for key in (None, "basket 1"):
            with locked(self.item):
                buyer = threading.Thread(target=buy, args=(key,))
                buyer.start()
                until(lambda: calls_that_wait() > 0)
                self.assertEqual(cancel_calls_that_wait(), 1)
            buyer.join(PATIENCE)
        self.assertIsInstance(outcomes[None], flashsale.OutcomeUnknown)
        self.assertIsInstance(outcomes["basket 1"], flashsale.Reservation)
        self.assertEqual(free_units(self.item), 9)

    def test_no_connection(self) -> None:
        def nowhere() -> Connection[Any]:
            return psycopg.connect("host=/nowhere")

        with self.assertRaises(psycopg.OperationalError):
            call = flashsale.purchase_item(self.item, "frank")
            flashsale.run_with_retry(nowhere, call, within=0.2)

    def test_wrong_arguments_are_not_tried_again(self) -> None:
        lossy = AnswersGetLost(times=0)
        with self.assertRaises(psycopg.Error):
            flashsale.run_with_retry(lossy.connection, flashsale.purchase_item(self.item, ""))
        self.assertEqual(lossy.tries, 1)
