"""The gatherer for threads."""

import asyncio
import threading
from collections.abc import Callable, Coroutine
from concurrent.futures import CancelledError
from typing import Any, Self

from .answers import Refusal, Reservation
from .calls import User
from .errors import Closed
from .gatherer import LONGEST_GOODBYE, Connect, Gatherer
from .retry import LASTS

Click = Callable[[], Coroutine[Any, Any, Reservation | Refusal]]


class ThreadGatherer:
    """A `Gatherer` in a thread of its own, for code without asyncio; any thread may call it.

        with ThreadGatherer(lambda: AsyncConnection.connect(dsn)) as gatherer:
            answer = gatherer.purchase(1, "alice", idempotency_key="basket 17")

    The arguments and the behaviour are those of `Gatherer`. Open it in each process after a fork.
    """

    def __init__(self, connect: Connect, **options: Any) -> None:
        self._gatherer = Gatherer(connect, **options)
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._state = threading.Lock()
        self._open = False

    def __enter__(self) -> Self:
        self._thread.start()
        asyncio.run_coroutine_threadsafe(self._gatherer.__aenter__(), self._loop).result()
        self._open = True
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def purchase(
        self,
        item_id: int,
        user_id: User,
        quantity: int = 1,
        *,
        idempotency_key: str | None = None,
        timeout: float | None = None,
    ) -> Reservation | Refusal:
        """As `Gatherer.purchase`. After `timeout` seconds it raises `TimeoutError`, with the
        consequences of a cancelled call."""
        return self._wait_for(
            lambda: self._gatherer.purchase(
                item_id, user_id, quantity, idempotency_key=idempotency_key
            ),
            timeout,
        )

    def purchase_with_retry(
        self,
        item_id: int,
        user_id: User,
        quantity: int = 1,
        *,
        idempotency_key: str | None = None,
        within: float = LASTS,
        timeout: float | None = None,
    ) -> Reservation | Refusal:
        """As `Gatherer.purchase_with_retry`, with the `timeout` of `purchase`."""
        return self._wait_for(
            lambda: self._gatherer.purchase_with_retry(
                item_id, user_id, quantity, idempotency_key=idempotency_key, within=within
            ),
            timeout,
        )

    def _wait_for(self, click: Click, timeout: float | None) -> Reservation | Refusal:
        with self._state:
            if not self._open:
                raise Closed("the gatherer is closed")
            answer = asyncio.run_coroutine_threadsafe(click(), self._loop)
        try:
            return answer.result(timeout)
        except CancelledError:  # by `close`, in a pause between tries
            raise Closed("the gatherer is closed") from None
        finally:
            answer.cancel()  # nothing happens if it is done

    def close(self, within: float = 30.0) -> None:
        """As `Gatherer.close`; then the thread ends."""
        with self._state:
            if not self._open:
                return
            self._open = False
        asyncio.run_coroutine_threadsafe(self._end(within), self._loop).result()
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    async def _end(self, within: float) -> None:
        await self._gatherer.close(within)
        await asyncio.sleep(0)  # callers who are answered return
        pausing = asyncio.all_tasks() - {asyncio.current_task()}
        for caller in pausing:
            caller.cancel()
        if pausing:
            await asyncio.wait(pausing, timeout=LONGEST_GOODBYE)
