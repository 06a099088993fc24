"""Users of the Python client who click again as soon as they have bought; prints what they bought:

    clicks.py single|gathered ITEM USERS SECONDS

Single calls are made under `grouped`, each user over a connection of its own.
"""

import asyncio
import contextlib
import json
import sys
import time

from psycopg import AsyncConnection

from flashsale_client import Gatherer, purchase_item, run_async

CONNECTIONS = 2  # of the gatherer: one call is made while the answers of another are read

how, item, users, seconds = sys.argv[1], *map(int, sys.argv[2:])


def connect():
    return AsyncConnection.connect(autocommit=True)


async def clicks(user, buy, until, waits):
    bought = 0
    while (began := time.monotonic()) < until:
        answer = await buy(f"user {user} {bought}")
        if not answer.success:
            raise RuntimeError(answer.reason)
        bought += 1
        waits.append(time.monotonic() - began)
    return bought


async def single(stack):
    def over(connection):
        async def buy(name):
            call = purchase_item(item, name, idempotency_key="click", strategy="grouped")
            return await run_async(connection, call)

        return buy

    return [over(await stack.enter_async_context(await connect())) for _ in range(users)]


async def gathered(stack):
    gatherer = await stack.enter_async_context(Gatherer(connect, connections=CONNECTIONS))

    def buy(name):
        return gatherer.purchase(item, name, idempotency_key="click")

    return [buy] * users


async def main():
    waits = []
    async with contextlib.AsyncExitStack() as stack:
        buyers = await (single(stack) if how == "single" else gathered(stack))
        began = time.monotonic()
        until = began + seconds
        done = await asyncio.gather(*(clicks(n, buy, until, waits) for n, buy in enumerate(buyers)))
        lasted = time.monotonic() - began
    waits.sort()
    told = {"per_second": sum(done) / lasted, "p99_ms": 1000 * waits[int(0.99 * len(waits))]}
    print(json.dumps(told | {"bought": sum(done)}))


asyncio.run(main())
