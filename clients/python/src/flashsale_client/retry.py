"""Makes a call until it has a final answer, as the extension's README describes it."""

import asyncio
import random
import time
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager, AbstractContextManager
from typing import Any, TypeVar

import psycopg
from psycopg import AsyncConnection, Connection

from .answers import Refusal
from .calls import Call, run, run_async
from .errors import OutcomeUnknown, connection_lost, may_be_made, rolled_back

T = TypeVar("T")

LASTS = 5.0  # seconds for which a call is made again, if the caller does not say
_FIRST_SPREAD = 0.010
_MAX_SPREAD = 0.500


class Backoff:
    """How long to wait before the next try: longer each time, and never in step with others."""

    def __init__(self) -> None:
        self._spread = _FIRST_SPREAD

    def next_wait(self, at_least_ms: int = 0) -> float:
        """Seconds: the server's hint and a random share of a spread that doubles up to half a
        second."""
        wait = at_least_ms / 1000 + random.random() * self._spread
        self._spread = min(2 * self._spread, _MAX_SPREAD)
        return wait


class Tries:
    """What to do after each try of one call, until `within` seconds are over."""

    def __init__(self, repeatable: bool, within: float) -> None:
        self._repeatable = repeatable
        self._until = time.monotonic() + within
        self._backoff = Backoff()
        self._lost: psycopg.Error | None = None

    def after_answer(self, answer: object) -> float | None:
        """How long to wait before the next try; None if this answer is the last one."""
        if not isinstance(answer, Refusal) or not answer.retryable:
            return None
        wait = self._wait(answer.retry_after_ms or 0)
        if wait is None and self._lost is not None:  # `busy` does not tell what became of that try
            raise OutcomeUnknown(str(self._lost)) from self._lost
        return wait

    def after_error(self, error: psycopg.Error, asked: bool) -> float:
        """How long to wait before the next try; raises if there is none. `asked`: whether the call
        may have reached the server."""
        may_be_done = asked and may_be_made(error)
        if may_be_done:
            self._lost = error
        elif not connection_lost(error) and not rolled_back(error):
            raise error
        wait = self._wait(0) if self._repeatable or not may_be_done else None
        if wait is not None:
            return wait
        if self._lost is not None:
            raise OutcomeUnknown(str(self._lost)) from self._lost
        raise error

    def _wait(self, at_least_ms: int) -> float | None:
        wait = self._backoff.next_wait(at_least_ms)
        return wait if time.monotonic() + wait < self._until else None


def run_with_retry(
    connection: Callable[[], AbstractContextManager[Connection[Any]]],
    call: Call[T],
    *,
    within: float = LASTS,
) -> T:
    """Makes the call on a connection of its own for each try, again after `busy` and `conflict`, and
    over a lost connection if it can be repeated: a purchase only with a key, and always with the
    same one.

    `connection` is the method `connection` of a psycopg_pool, or anything like it, which commits
    at the end. After `within` seconds no new try is made, and the last refusal is returned; what
    bounds a single try is the server's `statement_timeout`, which counts as a lost connection. Raises
    `OutcomeUnknown` if the connection was lost in mid-call and no later try told what became of
    it.
    """
    tries = Tries(call.repeatable, within)
    while True:
        asked = False
        try:
            with connection() as opened:
                asked = True
                answer = run(opened, call)
        except psycopg.Error as error:
            wait: float | None = tries.after_error(error, asked)
        else:
            wait = tries.after_answer(answer)
        if wait is None:
            return answer
        time.sleep(wait)


async def run_with_retry_async(
    connection: Callable[[], AbstractAsyncContextManager[AsyncConnection[Any]]],
    call: Call[T],
    *,
    within: float = LASTS,
) -> T:
    """As `run_with_retry`, for asyncio."""
    tries = Tries(call.repeatable, within)
    while True:
        asked = False
        try:
            async with connection() as opened:
                asked = True
                answer = await run_async(opened, call)
        except psycopg.Error as error:
            wait: float | None = tries.after_error(error, asked)
        else:
            wait = tries.after_answer(answer)
        if wait is None:
            return answer
        await asyncio.sleep(wait)
