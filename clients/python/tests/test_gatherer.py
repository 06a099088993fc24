"""The gatherer: exact, and no caller harms another."""

import asyncio
import json
import os
import socket
import threading
import unittest
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Iterable
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager, suppress
from typing import Any
from unittest import mock

import psycopg
from psycopg import AsyncConnection, AsyncCursor

import flashsale_client as flashsale
from flashsale_client import Gatherer, ThreadGatherer, run_async
from shop import (
    PATIENCE,
    WAITING_FOR_ITEMS,
    CountingCursor,
    ask,
    calls_that_wait,
    cancel_calls_that_wait,
    free_units,
    kill_calls_that_wait,
    lock,
    locked,
    now,
    open_async,
    open_connection,
    trigger,
    until_asked_again,
    until_async,
    until_tried,
    value,
)

Answer = flashsale.Reservation | flashsale.Refusal


async def settle(clicks: Iterable[Awaitable[Answer]]) -> list[Answer | BaseException]:
    async with asyncio.timeout(PATIENCE):
        return await asyncio.gather(*clicks, return_exceptions=True)


def sold(answers: Iterable[Answer | BaseException]) -> int:
    return sum(isinstance(answer, flashsale.Reservation) for answer in answers)


# Nothing is given up because the machine is slow, or because a test takes its time.
PATIENT: dict[str, Any] = {"patience": 60.0, "call_timeout": 60.0}


def patient(connect: Callable[[], Awaitable[AsyncConnection[Any]]], **options: Any) -> Gatherer:
    return Gatherer(connect, **(PATIENT | options))


def calls_of(count: int) -> dict[str, Any]:
    """Each call waits until it has as many clicks, however slow the machine is."""
    return {"largest_batch": count, "longest_wait": 60.0}


class Opened:
    """Connections that note how many clicks each of their calls has."""

    def __init__(self) -> None:
        self.calls: list[int] = []

    async def connect(self) -> AsyncConnection[Any]:
        class Noting(AsyncCursor[Any]):
            async def execute(cursor, query: Any, *arguments: Any, **options: Any) -> Any:
                if arguments and arguments[0]:
                    self.calls.append(len(json.loads(arguments[0][0])))
                return await super().execute(query, *arguments, **options)

        return await AsyncConnection.connect("", cursor_factory=Noting)


def stubborn(ended: asyncio.Event) -> Callable[..., Coroutine[Any, Any, None]]:
    """A call that goes on when it is cancelled for the first time."""

    async def call(*_: object, **__: object) -> None:
        with suppress(asyncio.CancelledError):
            await asyncio.Event().wait()
        try:
            await asyncio.Event().wait()
        finally:
            ended.set()

    return call


class Gathering(unittest.IsolatedAsyncioTestCase):
    def setUp(self) -> None:
        self.item = ask(flashsale.create_item(100))

    def click(self, gatherer: Gatherer, user: str, **options: Any) -> "asyncio.Task[Answer]":
        return asyncio.create_task(gatherer.purchase(self.item, user, **options))

    async def under_way(self, calls: int = 1) -> None:
        """Until this many calls wait for the item."""
        await until_async(lambda: calls_that_wait() >= calls)

    async def test_a_crowd_gets_exactly_what_there_is(self) -> None:
        async with patient(open_async, connections=2) as gatherer:
            answers = await settle(gatherer.purchase(self.item, n) for n in range(2_000))
        self.assertEqual(sold(answers), 100)
        reasons = {a.reason for a in answers if isinstance(a, flashsale.Refusal)}
        self.assertEqual(reasons, {"out_of_stock"})
        self.assertEqual(sum(isinstance(a, flashsale.Refusal) for a in answers), 1_900)
        self.assertEqual(len({a.order_id for a in answers if isinstance(a, flashsale.Reservation)}), 100)
        self.assertEqual(ask(flashsale.audit()), [])

    async def test_each_caller_gets_its_own_answer(self) -> None:
        async with patient(open_async) as gatherer:
            answers = await settle(
                gatherer.purchase(self.item, n, n, idempotency_key=f"key {n}") for n in range(1, 11)
            )
            again = await gatherer.purchase(self.item, 3, 3, idempotency_key="key 3")
        self.assertEqual([getattr(a, "quantity", a) for a in answers], list(range(1, 11)))
        assert again.success
        self.assertTrue(again.replayed)

    async def test_a_caller_who_leaves_harms_nobody(self) -> None:
        users = [f"sent {self.item}", f"queued {self.item}"]
        async with patient(open_async, **calls_of(2)) as gatherer:
            with locked(self.item):
                first, sent = self.click(gatherer, "a"), self.click(gatherer, users[0])
                await self.under_way()
                queued, last = self.click(gatherer, users[1]), self.click(gatherer, "z")
                await asyncio.sleep(0)
                sent.cancel()
                queued.cancel()
        answers = await settle([first, last, sent, queued])
        self.assertEqual(sold(answers), 2)
        self.assertTrue(all(isinstance(a, asyncio.CancelledError) for a in answers[2:]))
        # What was sent is bought all the same, what was not is not.
        self.assertTrue(ask(flashsale.user_orders(users[0])).success)
        self.assertFalse(ask(flashsale.user_orders(users[1])).success)

    async def test_a_slow_database_overloads_it(self) -> None:
        async with patient(open_async, **calls_of(2), queue_size=4) as gatherer:
            with locked(self.item):
                under_way = [self.click(gatherer, str(n)) for n in range(2)]
                await self.under_way()
                queued = [self.click(gatherer, str(n)) for n in range(2, 6)]
                await asyncio.sleep(0)
                with self.assertRaises(flashsale.Overloaded):
                    await gatherer.purchase(self.item, "one too many")
            self.assertEqual(sold(await settle(under_way + queued)), 6)
            later = [self.click(gatherer, str(n)) for n in range(6, 8)]
            self.assertEqual(sold(await settle(later)), 2)

    async def test_clicks_that_are_to_be_sent_again_count(self) -> None:
        async with patient(open_async, **calls_of(2), queue_size=2) as gatherer:
            with locked(self.item):
                clicks = [self.click(gatherer, str(n)) for n in range(2)]
                await self.under_way()
                clicks += [self.click(gatherer, str(n)) for n in range(2, 4)]
                await asyncio.sleep(0)
                since = now()
                self.assertEqual(await asyncio.to_thread(cancel_calls_that_wait), 1)
                await asyncio.to_thread(until_asked_again, since)  # the queue is empty
                late = self.click(gatherer, "one too many")
                await asyncio.sleep(0)
            self.assertIsInstance((await settle([late]))[0], flashsale.Overloaded)
            self.assertEqual(sold(await settle(clicks)), 4)

    async def test_it_drains_when_it_closes(self) -> None:
        gatherer = patient(open_async, connections=2, largest_batch=8)
        async with gatherer:
            clicks = [self.click(gatherer, str(n)) for n in range(50)]
            await asyncio.sleep(0)
        self.assertTrue(all(click.done() for click in clicks))
        self.assertEqual(sold(await settle(clicks)), 50)
        with self.assertRaises(flashsale.Closed):
            await gatherer.purchase(self.item, "late")

    async def test_it_closes_even_if_the_database_hangs(self) -> None:
        with locked(self.item):
            async with patient(open_async, largest_batch=1) as gatherer:
                sent = self.click(gatherer, "sent", idempotency_key="k")
                await self.under_way()
                queued = self.click(gatherer, "queued")
                await asyncio.sleep(0)
                await gatherer.close(within=0.1)
            answers = await settle([sent, queued])
        self.assertIsInstance(answers[0], flashsale.OutcomeUnknown)
        self.assertIsInstance(answers[1], flashsale.Closed)

    async def test_a_lost_connection(self) -> None:
        async with patient(open_async, **calls_of(2)) as gatherer:
            with locked(self.item):
                keyed = self.click(gatherer, "keyed", idempotency_key="basket 1")
                unkeyed = self.click(gatherer, "unkeyed")
                await self.under_way()
                queued = [self.click(gatherer, f"queued {n}") for n in range(2)]
                self.assertEqual(await asyncio.to_thread(kill_calls_that_wait), 1)
                answers = await settle([unkeyed])
                self.assertIsInstance(answers[0], flashsale.OutcomeUnknown)
            self.assertEqual(sold(await settle([keyed, *queued])), 3)
        self.assertEqual(free_units(self.item), 97)

    async def test_a_lost_connection_without_keys(self) -> None:
        async with patient(open_async) as gatherer:
            with locked(self.item):
                lost = self.click(gatherer, "lost")
                await self.under_way()
                self.assertEqual(await asyncio.to_thread(kill_calls_that_wait), 1)
                self.assertIsInstance((await settle([lost]))[0], flashsale.OutcomeUnknown)
            # Others still run, although nobody clicks.
            await asyncio.sleep(0.1)
            self.assertEqual(sold(await settle([self.click(gatherer, "next")])), 1)

    @asynccontextmanager
    async def lost_in_mid_call(self, **options: Any) -> AsyncIterator["asyncio.Task[Answer]"]:
        """A click whose call was lost, and whose item is busy until the block ends."""

        async def connect() -> AsyncConnection[Any]:
            connection = await open_async()
            connection.cursor_factory = CountingCursor
            return connection

        CountingCursor.answers = 0
        async with patient(connect, strategy="nowait", **options) as gatherer:
            self.gatherer = gatherer
            with open_connection() as shop, open_connection() as other:
                shop.execute("BEGIN; LOCK flashsale.orders IN EXCLUSIVE MODE", prepare=False)
                click = self.click(gatherer, "alice", idempotency_key="basket 1")
                await self.under_way()
                other.execute("BEGIN", prepare=False)
                next_in_line = asyncio.create_task(asyncio.to_thread(lock, other, self.item))
                await until_async(lambda: value(f"SELECT count(*) {WAITING_FOR_ITEMS}") > 0)
                self.assertEqual(await asyncio.to_thread(kill_calls_that_wait), 1)
                await next_in_line
                shop.rollback()
                yield click
                other.rollback()

    async def test_busy_does_not_tell_what_became_of_a_lost_call(self) -> None:
        async with self.lost_in_mid_call() as click:
            # The second shows that the first one was none for the click.
            await until_async(lambda: CountingCursor.answers > 1)
            self.assertFalse(click.done())
        self.assertEqual(sold(await settle([click])), 1)
        self.assertEqual(free_units(self.item), 99)

    async def test_a_lost_call_whose_repeats_are_busy_stays_unknown(self) -> None:
        async with self.lost_in_mid_call(patience=1.0) as click:
            self.assertIsInstance((await settle([click]))[0], flashsale.OutcomeUnknown)

    async def test_a_call_takes_no_longer_than_it_may(self) -> None:
        async with patient(open_async, call_timeout=0.3) as gatherer:
            with locked(self.item):
                slow = self.click(gatherer, "slow")
                self.assertIsInstance((await settle([slow]))[0], flashsale.OutcomeUnknown)
                await until_async(lambda: calls_that_wait() == 0)  # cancelled in the server
            # With a key it is made again if it takes too long, too.
            following = self.click(gatherer, "next", idempotency_key="basket 1")
            self.assertEqual(sold(await settle([following])), 1)

    async def test_a_cancelled_call_is_made_again(self) -> None:
        async with patient(open_async) as gatherer:
            with locked(self.item):
                click = self.click(gatherer, "alice")
                await self.under_way()
                since = now()
                self.assertEqual(await asyncio.to_thread(cancel_calls_that_wait), 1)
                await asyncio.to_thread(until_asked_again, since)
            self.assertEqual(sold(await settle([click])), 1)
        self.assertEqual(free_units(self.item), 99)

    async def others_are_served_before_a_second_repeat(self, end_call: Callable[[], int]) -> None:
        """`end_call` ends the calls that wait for the item, and returns how many."""
        other, opened = ask(flashsale.create_item(4)), Opened()
        async with patient(opened.connect, **calls_of(4)) as gatherer:
            with locked(self.item):
                clicks = [self.click(gatherer, str(n), idempotency_key="k") for n in range(4)]
                await self.under_way()
                since = now()
                self.assertEqual(await asyncio.to_thread(end_call), 1)
                await asyncio.to_thread(until_asked_again, since)
                self.assertEqual(opened.calls, [4, 2])
                others = [asyncio.create_task(gatherer.purchase(other, n)) for n in range(4)]
                await asyncio.sleep(0)
                self.assertEqual(await asyncio.to_thread(end_call), 1)
                self.assertEqual(sold(await settle(others)), 4)
                self.assertEqual(opened.calls[2], 4)
            self.assertEqual(sold(await settle(clicks)), 4)
        self.assertEqual(free_units(self.item), 96)

    async def test_others_are_served_while_a_cancelled_call_is_repeated(self) -> None:
        await self.others_are_served_before_a_second_repeat(cancel_calls_that_wait)

    async def test_others_are_served_while_a_lost_call_is_repeated(self) -> None:
        await self.others_are_served_before_a_second_repeat(kill_calls_that_wait)

    async def test_cancelled_calls_are_repeated_no_longer_than_patience(self) -> None:
        opened = Opened()
        with locked(self.item):
            async with patient(opened.connect, **calls_of(8), patience=0.1) as gatherer:
                clicks = [self.click(gatherer, str(n)) for n in range(8)]
                await self.under_way()
                await asyncio.sleep(0.1)  # patience has ended
                self.assertEqual(await asyncio.to_thread(cancel_calls_that_wait), 1)
                answers = await settle(clicks)
        self.assertEqual([getattr(a, "sqlstate", a) for a in answers], ["57014"] * 8)
        self.assertEqual(opened.calls, [8])

    async def test_without_a_database(self) -> None:
        async def nowhere() -> AsyncConnection[Any]:
            return await AsyncConnection.connect("host=/nowhere")

        async with patient(nowhere, patience=0.2) as gatherer:
            answers = await settle(gatherer.purchase(self.item, n) for n in range(3))
        self.assertTrue(all(isinstance(a, psycopg.OperationalError) for a in answers), answers)

    async def test_a_connect_that_hangs(self) -> None:
        tries = 0

        async def connect() -> AsyncConnection[Any]:
            nonlocal tries
            tries += 1
            if tries == 1:
                await asyncio.Event().wait()
            return await open_async()

        async with patient(connect) as gatherer:
            self.assertEqual(sold(await settle([self.click(gatherer, "alice")])), 1)

    async def test_a_connect_that_is_cancelled(self) -> None:
        tries = 0

        async def connect() -> AsyncConnection[Any]:
            nonlocal tries
            tries += 1
            if tries == 1:
                raise asyncio.CancelledError
            return await open_async()

        async with patient(connect) as gatherer:
            self.assertEqual(sold(await settle([self.click(gatherer, "alice")])), 1)

    async def test_a_connection_that_was_never_good(self) -> None:
        tries = 0

        async def connect() -> AsyncConnection[Any]:
            nonlocal tries
            tries += 1
            connection = await open_async()
            if tries == 1:
                with socket.socket(fileno=os.dup(connection.fileno())) as its:
                    its.shutdown(socket.SHUT_RDWR)
            return connection

        async with patient(connect) as gatherer:  # without a key: it was not asked
            self.assertEqual(sold(await settle([self.click(gatherer, "alice")])), 1)

    async def test_what_takes_too_long_is_an_error_of_psycopg(self) -> None:
        async def connect() -> AsyncConnection[Any]:
            await asyncio.Event().wait()
            return await open_async()

        with locked(self.item):
            options: dict[str, Any] = {"largest_batch": 1, "patience": 0.1, "call_timeout": 0.3}
            async with patient(open_async, **options) as gatherer:
                clicks = [self.click(gatherer, user) for user in ("sent", "queued")]
                sent, queued = await settle(clicks)
        async with patient(connect, patience=0.1) as gatherer:
            unconnected = (await settle([self.click(gatherer, "alice")]))[0]
        self.assertIsInstance(sent, flashsale.OutcomeUnknown)
        self.assertIsInstance(getattr(sent, "__cause__", None), psycopg.OperationalError)
        self.assertIsInstance(queued, psycopg.OperationalError)
        self.assertIsInstance(unconnected, psycopg.OperationalError)

    async def test_a_call_that_does_not_end_when_it_is_cancelled(self) -> None:
        ended = asyncio.Event()
        with (
            mock.patch("flashsale_client.gatherer.run_async", stubborn(ended)),
            mock.patch("flashsale_client.gatherer.LONGEST_GOODBYE", 0.1),
        ):
            async with patient(open_async, call_timeout=0.1) as gatherer:
                answers = await settle([self.click(gatherer, "alice")])
                self.assertIsInstance(answers[0], flashsale.OutcomeUnknown)
                self.assertTrue(ended.is_set())

    async def test_a_connection_that_does_not_answer(self) -> None:
        ended = asyncio.Event()

        async def connect() -> AsyncConnection[Any]:
            connection = await open_async()
            connection.execute = stubborn(ended)  # type: ignore[assignment, method-assign]
            return connection

        with (
            mock.patch("flashsale_client.gatherer._LONGEST_CONNECT", 0.1),
            mock.patch("flashsale_client.gatherer.LONGEST_GOODBYE", 0.1),
        ):
            async with patient(connect, patience=0.1) as gatherer:
                answers = await settle([self.click(gatherer, "alice")])
                self.assertIsInstance(answers[0], psycopg.OperationalError)
                self.assertTrue(ended.is_set())

    async def test_answers_that_are_too_few(self) -> None:
        async def all_but_one(*arguments: Any) -> list[Answer]:
            answers: list[Answer] = await run_async(*arguments)
            return answers[1:]

        with mock.patch("flashsale_client.gatherer.run_async", all_but_one):
            async with patient(open_async, **calls_of(2)) as gatherer:
                answers = await settle(self.click(gatherer, user) for user in ("alice", "ben"))
        self.assertEqual([type(answer) for answer in answers], [flashsale.OutcomeUnknown] * 2)

    async def test_a_database_that_comes_back(self) -> None:
        tries = 0

        async def later() -> AsyncConnection[Any]:
            nonlocal tries
            tries += 1
            return await (open_async() if tries > 3 else AsyncConnection.connect("host=/nowhere"))

        async with patient(later) as gatherer:
            self.assertTrue((await gatherer.purchase(self.item, "alice")).success)

    async def test_wrong_arguments_are_their_callers_errors(self) -> None:
        nothing: Any = None
        wrong: list[tuple[tuple[Any, ...], str]] = [
            ((self.item, "alice", 0), "22023"),
            ((self.item, ""), "22023"),
            ((self.item, "x" * 256), "22023"),
            ((self.item, "nul \0"), "22023"),
            ((self.item, nothing), "22004"),
            ((nothing, "alice"), "22004"),
            ((2**63, "alice"), "22003"),
            ((self.item, "half \ud800"), "22023"),
            ((self.item, [1]), "22023"),
            ((self.item, b"a"), "22023"),
            ((self.item, 1.5), "22023"),
            ((self.item, True), "22023"),
            ((self.item, "alice", 1.5), "22023"),  # found by the server
        ]
        async with patient(open_async) as gatherer:
            good = [self.click(gatherer, str(n)) for n in range(20)]
            bad = [asyncio.create_task(gatherer.purchase(*arguments)) for arguments, _ in wrong]
            more = [self.click(gatherer, str(n)) for n in range(20, 40)]
            for answer, (arguments, state) in zip(await settle(bad), wrong, strict=True):
                with self.subTest(arguments):
                    assert isinstance(answer, psycopg.Error), answer
                    self.assertEqual(answer.sqlstate, state)
            self.assertEqual(sold(await settle(good + more)), 40)

    async def cursed_and_others(self, state: str) -> tuple[Answer | BaseException, list[Any]]:
        """What became of the click for which a trigger raises this, and of the others of its call."""
        with trigger("NEW.user_id = 'cursed'", state):
            async with patient(open_async, **calls_of(40)) as gatherer:
                answers = await settle(
                    gatherer.purchase(self.item, "cursed" if n == 13 else n) for n in range(40)
                )
        return answers.pop(13), answers

    async def test_an_error_of_a_trigger_is_its_callers(self) -> None:
        for state in ("P0001", "SHOP1"):
            with self.subTest(state):
                error, others = await self.cursed_and_others(state)
                self.assertIsInstance(error, psycopg.Error)
                self.assertIn("not this one", str(error))
                self.assertEqual(sold(others), 39)

    async def test_an_error_of_the_server_is_everybodys(self) -> None:
        for state in ("XX001", "54001"):
            with self.subTest(state):
                error, others = await self.cursed_and_others(state)
                for each in [error, *others]:
                    self.assertEqual(getattr(each, "sqlstate", each), state)

    async def test_what_passes_is_made_again_over_the_same_connection(self) -> None:
        for state in ("40001", "53200"):
            opened: list[AsyncConnection[Any]] = []

            async def connect(opened: list[AsyncConnection[Any]] = opened) -> AsyncConnection[Any]:
                opened.append(await open_async())
                return opened[-1]

            with self.subTest(state), trigger("nextval('public.tries') = 1", state):
                async with patient(connect) as gatherer:
                    clicks = [self.click(gatherer, f"{state} {n}") for n in range(3)]
                    self.assertEqual(sold(await settle(clicks)), 3)
                self.assertEqual(len(opened), 1)

    async def test_it_answers_what_rests_when_it_closes(self) -> None:
        with trigger("nextval('public.tries') < 4", "40001"):
            async with patient(open_async) as gatherer:
                click = self.click(gatherer, "alice")
                await asyncio.to_thread(until_tried)
            self.assertTrue(click.done())
        self.assertEqual(sold(await settle([click])), 1)

    async def test_others_are_served_while_a_click_rests(self) -> None:
        other = ask(flashsale.create_item(1))
        async with self.lost_in_mid_call() as click:
            self.assertTrue((await self.gatherer.purchase(other, "bob")).success)
            self.assertFalse(click.done())
        await settle([click])

    async def test_an_error_about_all_is_everybodys(self) -> None:
        strategy: Any = "fastest"
        async with patient(open_async, strategy=strategy) as gatherer:
            answers = await settle(gatherer.purchase(self.item, n) for n in range(3))
        self.assertEqual([getattr(a, "sqlstate", None) for a in answers], ["22023"] * 3)

    async def test_busy_is_tried_again(self) -> None:
        async with patient(open_async, strategy="nowait") as gatherer:
            with locked(self.item) as release:
                busy = await gatherer.purchase(self.item, "alice")
                assert not busy.success
                self.assertEqual(busy.reason, "busy")
                threading.Timer(0.1, release).start()
                answer = await gatherer.purchase_with_retry(self.item, "alice", within=PATIENCE)
        self.assertTrue(answer.success)


class Threads(unittest.TestCase):
    def setUp(self) -> None:
        self.item = ask(flashsale.create_item(20))

    def test_threads_gather(self) -> None:
        with ThreadGatherer(open_async, **PATIENT) as gatherer, ThreadPoolExecutor(32) as pool:
            answers = list(pool.map(lambda n: gatherer.purchase(self.item, n), range(200)))
        self.assertEqual(sold(answers), 20)
        with self.assertRaises(flashsale.Closed):
            gatherer.purchase(self.item, "late")

    def test_a_thread_that_does_not_wait(self) -> None:
        with ThreadGatherer(open_async, **PATIENT) as gatherer:
            with locked(self.item):
                with self.assertRaises(TimeoutError):
                    gatherer.purchase(self.item, "impatient", timeout=0.1)
            self.assertTrue(gatherer.purchase(self.item, "patient").success)
        # Whether the impatient one's click had been sent is a matter of speed.
        self.assertIn(free_units(self.item), (18, 19))

    def test_busy_is_tried_again(self) -> None:
        with ThreadGatherer(open_async, **PATIENT, strategy="nowait") as gatherer:
            with locked(self.item) as release:
                busy = gatherer.purchase_with_retry(self.item, "alice", within=0.1)
                assert not busy.success
                self.assertEqual(busy.reason, "busy")
                threading.Timer(0.1, release).start()
                answer = gatherer.purchase_with_retry(
                    self.item, "alice", within=PATIENCE, timeout=2 * PATIENCE
                )
        self.assertTrue(answer.success)

    def test_it_closes_while_callers_pause_between_tries(self) -> None:
        pausing = threading.Event()

        def pause(*_: object) -> float:
            pausing.set()
            return 3600.0

        outcomes: list[Answer | Exception] = []

        def click() -> None:
            try:
                outcomes.append(gatherer.purchase_with_retry(self.item, "alice"))
            except Exception as error:
                outcomes.append(error)

        with mock.patch("flashsale_client.gatherer.Tries.after_answer", pause):
            with ThreadGatherer(open_async, **PATIENT) as gatherer:
                caller = threading.Thread(target=click, daemon=True)
                caller.start()
                self.assertTrue(pausing.wait(PATIENCE))
        caller.join(PATIENCE)
        self.assertIsInstance(outcomes.pop(), flashsale.Closed)
