"""Joins the clicks of many users into calls of `purchase_batch`.

One row lock, one statement and one commit then serve a whole batch, over a handful of connections.
"""

import asyncio
import json
from collections import deque
from collections.abc import Awaitable, Callable, Collection, Coroutine, Iterable
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any, Self, TypeVar

import psycopg
from psycopg import AsyncConnection
from psycopg.errors import (
    ConnectionTimeout,
    InvalidParameterValue,
    NullValueNotAllowed,
    NumericValueOutOfRange,
)

from .answers import Refusal, Reservation
from .calls import Strategy, User, batch_call, run_async, text_of
from .errors import (
    Closed,
    OutcomeUnknown,
    Overloaded,
    about_one_request,
    cancelled,
    connection_lost,
    rolled_back,
)
from .retry import LASTS, Backoff, Tries

T = TypeVar("T")
Connect = Callable[[], Awaitable[AsyncConnection[Any]]]
_MOST_IN_A_CALL = 1000  # what purchase_batch takes
_LONGEST_CONNECT = 2.0  # seconds
LONGEST_GOODBYE = 1.0  # seconds for a cancelled call to end


@dataclass(eq=False, slots=True)
class _Click:
    request: str  # JSON
    has_key: bool
    came_at: float  # by the loop's clock
    largest_batch: int  # of a call with it
    answer: "asyncio.Future[Reservation | Refusal]"
    asked: bool = False  # whether it may have been served
    lost: Exception | None = None  # what ended a call that may have served it
    backoff: Backoff = field(default_factory=Backoff)  # between its calls


class Gatherer:
    """Buys for many users at once, in asyncio; `ThreadGatherer` is for threads.

        async with Gatherer(lambda: AsyncConnection.connect(dsn)) as gatherer:
            answer = await gatherer.purchase(1, "alice", idempotency_key="basket 17")

    - Each of its `connections` (which it opens by `connect`, and puts into autocommit) has one call
      under way. A click waits at most `longest_wait` seconds for others, and a call has at most
      `largest_batch` of them. Under the strategies `grouped` and `atomic` calls for the same item wait
      for each other.
    - If `queue_size` clicks wait already, because the database is slow, a click is `Overloaded`.
    - A caller may be cancelled, or stop waiting, without harm to others. Its click is dropped if it
      was not sent yet; if it was, the purchase may be made. With a key it can then be repeated;
      without one the reservation expires.
    - If the connection is lost in mid-call, or there is no answer within `call_timeout` seconds,
      clicks with a key are sent again, and clicks without one raise `OutcomeUnknown`. `busy` is then
      no answer, since the lost call may be what the item is busy with. Clicks that are to be sent
      again rest for a moment, and then take turns with the others, in calls half as large. While
      there is no connection (to open one may take 2 seconds), clicks wait. After `patience` seconds,
      which also bound the repeats, clicks raise the driver's error, or `OutcomeUnknown` if they may
      have been served.
    - A wrong argument, or an error from a constraint or trigger, is raised only by the click that
      it is about. An error that is about the session, its privileges or the state of the server is
      raised by all clicks of the call.
    - At the end of the block, or by `close`, what waits is still answered.
    """

    def __init__(
        self,
        connect: Connect,
        *,
        connections: int = 1,
        longest_wait: float = 0.001,
        largest_batch: int = 256,
        queue_size: int = 4096,
        patience: float = 5.0,
        call_timeout: float = 3.0,
        strategy: Strategy | None = "grouped",
    ) -> None:
        if connections < 1 or queue_size < 1 or not 1 <= largest_batch <= _MOST_IN_A_CALL:
            raise ValueError("connections and queue_size are 1 or more, largest_batch is 1 to 1,000")
        self._connect = connect
        self._connections = connections
        self._longest_wait = longest_wait
        self._largest_batch = largest_batch
        self._queue_size = queue_size
        self._patience = patience
        self._call_timeout = call_timeout
        self._strategy = strategy
        self._queue: deque[_Click] = deque()
        self._again: deque[_Click] = deque()  # have rested, and are to be sent again
        self._again_was_last = False  # whether the last call was made of them
        self._clicks: set[_Click] = set()  # queued, sent and resting
        self._resting = 0  # clicks that are to be sent again after a pause
        self._some = asyncio.Event()  # a click waits, or nothing more will come
        self._full = asyncio.Event()  # a whole batch waits, or nothing more will come
        self._turn = asyncio.Lock()  # one connection gathers at a time
        self._workers: list[asyncio.Task[None]] = []
        self._open = False

    async def __aenter__(self) -> Self:
        self._open = True
        self._workers = [asyncio.create_task(self._work()) for _ in range(self._connections)]
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def purchase(
        self,
        item_id: int,
        user_id: User,
        quantity: int = 1,
        *,
        idempotency_key: str | None = None,
    ) -> Reservation | Refusal:
        """As `purchase_item`. Raises `Overloaded`, `OutcomeUnknown`, `Closed`, or the driver's
        error."""
        request = _request(item_id, user_id, quantity, idempotency_key)
        if not self._open:
            raise Closed("the gatherer is closed")
        if len(self._queue) + len(self._again) + self._resting >= self._queue_size:
            raise Overloaded(f"{self._queue_size} clicks wait")
        loop = asyncio.get_running_loop()
        has_key = idempotency_key is not None
        answer: asyncio.Future[Reservation | Refusal] = loop.create_future()
        click = _Click(request, has_key, loop.time(), self._largest_batch, answer)
        self._clicks.add(click)
        self._queue.append(click)
        self._ring()
        try:
            return await click.answer
        finally:
            self._clicks.discard(click)

    async def purchase_with_retry(
        self,
        item_id: int,
        user_id: User,
        quantity: int = 1,
        *,
        idempotency_key: str | None = None,
        within: float = LASTS,
    ) -> Reservation | Refusal:
        """As `purchase`, and again after `busy` and `conflict`, up to `within` seconds."""
        tries = Tries(idempotency_key is not None, within)
        while True:
            answer = await self.purchase(
                item_id, user_id, quantity, idempotency_key=idempotency_key
            )
            if (wait := tries.after_answer(answer)) is None:
                return answer
            await asyncio.sleep(wait)

    async def close(self, within: float = 30.0) -> None:
        """Takes no more clicks, and returns when all are answered; after `within` seconds those
        left raise `Closed`, or `OutcomeUnknown` if they had been sent."""
        self._open = False
        self._some.set()
        self._full.set()
        if self._workers:
            _, late = await asyncio.wait(self._workers, timeout=within)
            for click in self._clicks:
                _fail(click, Closed("the gatherer is closed"))
            for worker in late:
                worker.cancel()
            if late:
                await asyncio.wait(late, timeout=2 * LONGEST_GOODBYE)

    # ---- the queue ------------------------------------------------------------------------

    def _ring(self) -> None:
        self._some.set()
        if len(self._queue) >= self._largest_batch:
            self._full.set()

    async def _more(self) -> bool:
        """Waits for a click; false if no more will come."""
        while not self._queue and not self._again and (self._open or self._resting):
            self._some.clear()
            await self._some.wait()
        return bool(self._queue or self._again)

    async def _gather(self) -> list[_Click]:
        """The clicks of the next call; none if another connection was faster. Those that are sent
        again take turns with the others, who so wait for no more than one call of them."""
        async with self._turn:
            self._again_was_last = bool(self._again) and not (self._queue and self._again_was_last)
            if self._again_was_last:
                return self._take(self._again)
            if not self._queue:
                return []
            left = self._queue[0].came_at + self._longest_wait - asyncio.get_running_loop().time()
            if left > 0 and not self._full.is_set():
                with suppress(TimeoutError):
                    async with asyncio.timeout(left):
                        await self._full.wait()
            batch = self._take(self._queue)
            if self._open and len(self._queue) < self._largest_batch:
                self._full.clear()
            return batch

    def _take(self, queue: deque[_Click]) -> list[_Click]:
        """As many clicks as may be in a call with each other."""
        batch: list[_Click] = []
        largest = self._largest_batch
        while queue and len(batch) < min(largest, queue[0].largest_batch):
            click = queue.popleft()
            if not click.answer.done():  # its caller left
                largest = min(largest, click.largest_batch)
                batch.append(click)
        return batch

    def _put_back(self, clicks: list[_Click]) -> None:
        self._queue.extendleft(reversed(clicks))
        self._ring()

    def _ask_again(self, clicks: list[_Click], error: Exception) -> None:
        """After a call that was rolled back or lost: in calls half as large, in case one of them is
        the cause. Those whose patience has ended fail, also if they have rested."""
        self._again = deque(self._with_time(self._again, error))
        for click in clicks:
            click.largest_batch = max(1, len(clicks) // 2)
        self._rest(self._with_time(clicks, error))

    def _rest(self, clicks: list[_Click], at_least_ms: int = 0) -> None:
        """They are sent again after a pause, in which others are served."""
        if not clicks:
            return
        pause = max(click.backoff.next_wait(at_least_ms) for click in clicks)
        self._resting += len(clicks)
        asyncio.get_running_loop().call_later(pause, self._rested, clicks)

    def _rested(self, clicks: list[_Click]) -> None:
        self._resting -= len(clicks)
        self._again.extend(click for click in clicks if not click.answer.done())
        self._ring()

    def _give_up(self, error: Exception) -> None:
        """Fails what has waited too long for a connection."""
        self._queue = deque(self._with_time(self._queue, error))
        self._again = deque(self._with_time(self._again, error))

    def _with_time(self, clicks: Collection[_Click], error: Exception) -> list[_Click]:
        """Those whose patience has not ended; the others fail."""
        before = asyncio.get_running_loop().time() - self._patience
        _fail_all((click for click in clicks if click.came_at <= before), error)
        return [click for click in clicks if click.came_at > before]

    # ---- the calls ------------------------------------------------------------------------

    async def _work(self) -> None:
        connection: AsyncConnection[Any] | None = None
        backoff = Backoff()
        try:
            while await self._more():
                if connection is None or connection.closed:
                    connection = await self._try_to_connect(backoff)
                elif batch := await self._gather():
                    if await self._serve(connection, batch):
                        backoff = Backoff()
                    else:
                        await _discard(connection)
                        connection = None
                        await asyncio.sleep(backoff.next_wait())
        finally:
            if connection is not None:
                await _discard(connection)

    async def _try_to_connect(self, backoff: Backoff) -> AsyncConnection[Any] | None:
        try:
            return await self._new_connection()
        except TimeoutError:
            failed: Exception = ConnectionTimeout(f"no connection within {_LONGEST_CONNECT:g} s")
        except asyncio.CancelledError:
            if (worker := asyncio.current_task()) and worker.cancelling():
                raise  # by `close`
            failed = psycopg.OperationalError("connecting was cancelled")
        except Exception as error:  # whatever `connect` raises
            failed = error
        self._give_up(failed)
        await asyncio.sleep(backoff.next_wait())
        return None

    async def _new_connection(self) -> AsyncConnection[Any]:
        connection: AsyncConnection[Any] | None = None
        try:
            loop = asyncio.get_running_loop()
            until = loop.time() + _LONGEST_CONNECT
            async with asyncio.timeout_at(until):
                connection = await self._connect()
                await connection.set_autocommit(True)
            # PgBouncer accepts clients even while it has no server for them.
            await _in_time(connection.execute("SELECT 1", prepare=False), until - loop.time())
            return connection
        except BaseException:
            if connection is not None:
                await _discard(connection)
            raise

    async def _serve(self, connection: AsyncConnection[Any], batch: list[_Click]) -> bool:
        """Answers each click of a batch, or asks it again later; false if the connection is lost. A
        batch with an error that may be about one of its requests is halved until that one is
        alone."""
        parts = [batch]
        while parts:
            part = parts.pop()
            try:
                await self._ask(connection, part)
            except Exception as error:
                if not isinstance(error, psycopg.Error) or connection_lost(error):
                    self._lose(part, error, [click for rest in parts[::-1] for click in rest])
                    return False
                for click in part:
                    click.asked = click.lost is not None  # otherwise it was rolled back
                if len(part) > 1 and about_one_request(error):
                    middle = len(part) // 2
                    parts += [part[middle:], part[:middle]]
                elif rolled_back(error) or cancelled(error):
                    self._ask_again(part, error)
                else:
                    _fail_all(part, error)
        return True

    async def _ask(self, connection: AsyncConnection[Any], part: list[_Click]) -> None:
        requests = f"[{','.join(click.request for click in part)}]"
        for click in part:
            click.asked = True
        call = run_async(connection, batch_call(requests, self._strategy, repeatable=False))
        answers = await _in_time(call, self._call_timeout)
        if len(answers) != len(part):
            raise ValueError("the answers are not one for each purchase")
        unsettled, at_least_ms = [], 0
        for click, answer in zip(part, answers, strict=True):
            if click.lost is not None and isinstance(answer, Refusal) and answer.retryable:
                # The lost call may still be running, and be what the item is busy with.
                unsettled += self._with_time([click], click.lost)
                at_least_ms = max(at_least_ms, answer.retry_after_ms or 0)
            elif not click.answer.done():
                click.answer.set_result(answer)
        self._rest(unsettled, at_least_ms)

    def _lose(self, part: list[_Click], error: Exception, not_asked: list[_Click]) -> None:
        """After a lost connection: what has a key is sent again, what has none fails."""
        for click in part:
            click.lost = click.lost or error
        _fail_all((click for click in part if not click.has_key), error)
        self._ask_again([click for click in part if click.has_key], error)
        self._put_back(not_asked)
        self._give_up(error)


def _request(item_id: int, user_id: User, quantity: int, idempotency_key: str | None) -> str:
    """The JSON of a request. What the server would refuse for the whole call is refused here, with
    the same SQLSTATE."""
    for name, number in (("item_id", item_id), ("quantity", quantity)):
        if number is None:
            raise NullValueNotAllowed(f"{name} must not be None")
        if not -(2**63) <= number < 2**63:
            raise NumericValueOutOfRange(f"{name} is {number}: it is no bigint")
    if user_id is None:
        raise NullValueNotAllowed("user_id must not be None")
    if quantity < 1:
        raise InvalidParameterValue(f"quantity is {quantity}: it must be at least 1")
    request: dict[str, object] = {"item_id": item_id, "quantity": quantity}
    for name, value in (("user_id", user_id), ("idempotency_key", idempotency_key)):
        if (text := text_of(name, value)) is None:
            continue
        if not 1 <= len(text.encode()) <= 255 or "\0" in text:
            raise InvalidParameterValue(f"{name} must have 1 to 255 bytes, none of them 0")
        request[name] = text
    return json.dumps(request)


def _fail(click: _Click, error: Exception) -> None:
    """With this error, unless the click may have been served."""
    if click.answer.done():
        return
    if click.asked:
        cause = click.lost or error
        error = OutcomeUnknown(str(cause))
        error.__cause__ = cause
    click.answer.set_exception(error)


def _fail_all(clicks: Iterable[_Click], error: Exception) -> None:
    for click in clicks:
        _fail(click, error)


async def _discard(connection: AsyncConnection[Any]) -> None:
    with suppress(psycopg.Error):
        await connection.close()


async def _in_time(call: Coroutine[Any, Any, T], seconds: float) -> T:
    """Its answer; or an error after so many seconds, even if the server does not react to the
    cancel."""
    task = asyncio.create_task(call)
    try:
        await asyncio.wait({task}, timeout=seconds)
        if task.done():
            return task.result()
        raise psycopg.OperationalError(f"no answer within {seconds:g} s")
    finally:
        if not task.done():
            task.add_done_callback(lambda ended: ended.cancelled() or ended.exception())
            task.cancel()  # in the server too
            await asyncio.wait({task}, timeout=LONGEST_GOODBYE)
            task.cancel()  # if it still waits for the server
            await asyncio.wait({task}, timeout=LONGEST_GOODBYE)
