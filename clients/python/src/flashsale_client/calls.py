"""Every call as data: what to ask, and how to read the answer.

A call is made with `run` or `run_async` on a connection of the application's, and may be made
again. What a function does and answers is described in docs/api.md of the extension.
"""

import json
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Generic, Literal, TypeVar
from uuid import UUID

from psycopg import AsyncConnection, Connection
from psycopg.errors import InvalidParameterValue
from psycopg.rows import tuple_row

from . import answers
from .answers import Refusal, Reservation, reader, row_reader

T = TypeVar("T")

Strategy = Literal["nowait", "optimistic", "atomic", "grouped"]
User = str | int | UUID
"""A number or UUID stands for its text: 42 and "42" are the same user."""
OrderName = str | int
"""An order's ref, or its id. Outside the database use the ref."""


@dataclass(frozen=True, slots=True)
class Call(Generic[T]):
    """One call. `repeatable`: whether it may be made again if its answer got lost."""

    sql: str
    arguments: tuple[Any, ...]
    read: Callable[[Any], T]
    repeatable: bool = True


def run(connection: Connection[Any], call: Call[T]) -> T:
    """Makes the call in the connection's transaction. Prepares nothing, so it works through
    PgBouncer in transaction mode."""
    with connection.cursor(row_factory=tuple_row) as cursor:
        cursor.execute(call.sql, call.arguments, prepare=False)
        return _answer(call, cursor.fetchone())


async def run_async(connection: AsyncConnection[Any], call: Call[T]) -> T:
    """As `run`, for asyncio."""
    async with connection.cursor(row_factory=tuple_row) as cursor:
        await cursor.execute(call.sql, call.arguments, prepare=False)
        return _answer(call, await cursor.fetchone())


def _answer(call: Call[T], row: tuple[Any, ...] | None) -> T:
    assert row is not None, "a call returns one row"
    return call.read(json.loads(row[0]))


# Texts, so that it does not matter how the application's connection reads jsonb.
def _function(name: str, *types: str) -> str:
    parameters = ", ".join(f"%s::{type_}" for type_ in types)
    return f"SELECT flashsale.{name}({parameters})::text"


def _rows(of: str, order_by: str) -> str:
    return f"SELECT coalesce(jsonb_agg(to_jsonb(r) ORDER BY {order_by}), '[]')::text FROM flashsale.{of} r"


def _named(order: OrderName) -> str | None:
    return None if order is None else str(order)  # the server says what is wrong with None


def text_of(name: str, value: object) -> str | None:
    """The text of a user or a key. Values are refused whose text others could have, too."""
    if value is None:
        return None
    if not isinstance(value, (str, int, UUID)) or isinstance(value, bool):
        raise InvalidParameterValue(f"{name} is {value!r}: it must be a text, a whole number or a UUID")
    text = str(value)
    if any("\ud800" <= character <= "\udfff" for character in text):
        raise InvalidParameterValue(f"{name} is {value!r}: it has half of a surrogate pair")
    return text


def _list_of(of: type[T]) -> Callable[[list[Any]], list[T]]:
    read = row_reader(of)
    return lambda rows: [read(row) for row in rows]


# ---- for the application --------------------------------------------------------------


def purchase_item(
    item_id: int,
    user_id: User,
    quantity: int = 1,
    *,
    idempotency_key: str | None = None,
    strategy: Strategy | None = None,
) -> Call[Reservation | Refusal]:
    """Reserves units for a user. Repeatable only with a key."""
    return Call(
        _function("purchase_item", "bigint", "text", "bigint", "text", "text"),
        (
            item_id,
            text_of("user_id", user_id),
            quantity,
            text_of("idempotency_key", idempotency_key),
            strategy,
        ),
        reader(Reservation),
        repeatable=idempotency_key is not None,
    )


def purchase_batch(
    requests: Iterable[Mapping[str, Any]], *, strategy: Strategy | None = None
) -> Call[list[Reservation | Refusal]]:
    """Up to 1,000 independent purchases, with an answer for each, in order.
    A request has `item_id`, `user_id`, and may have `quantity` and `idempotency_key`."""
    return batch_call(json.dumps(list(requests), default=_plain), strategy, repeatable=False)


def _plain(value: Any) -> str:
    """What JSON lacks."""
    if isinstance(value, UUID):
        return str(value)
    raise TypeError(f"{value!r} cannot be part of a request")


def batch_call(
    requests: str, strategy: Strategy | None, *, repeatable: bool
) -> Call[list[Reservation | Refusal]]:
    read = reader(Reservation)
    return Call(
        _function("purchase_batch", "jsonb", "text"),
        (requests, strategy),
        lambda answers: [read(answer) for answer in answers],
        repeatable,
    )


def begin_payment(
    order: OrderName, payment_window: timedelta | None = None
) -> Call[answers.PaymentBegun | Refusal]:
    """Call it before the card is charged. If it is refused, do not charge."""
    return Call(
        _function("begin_payment", "text", "interval"),
        (_named(order), payment_window),
        reader(answers.PaymentBegun),
    )


def confirm_order(
    order: OrderName,
    payment_ref: str | None = None,
    amount: int | None = None,
    currency: str | None = None,
) -> Call[answers.Confirmed | Refusal]:
    """Reports a charge. If it is refused with `refund_required`, the charge is in `refunds_due`."""
    return Call(
        _function("confirm_order", "text", "text", "bigint", "text"),
        (_named(order), payment_ref, amount, currency),
        reader(answers.Confirmed),
    )


def cancel_order(
    order: OrderName, reason: str | None = None
) -> Call[answers.Cancelled | Refusal]:
    return Call(
        _function("cancel_order", "text", "text"),
        (_named(order), reason),
        reader(answers.Cancelled),
    )


def get_order(order: OrderName) -> Call[answers.Order | Refusal]:
    return Call(_function("get_order", "text"), (_named(order),), reader(answers.Order))


def user_orders(user_id: User) -> Call[answers.UserOrders | Refusal]:
    """The user's newest 100 orders."""
    user = text_of("user_id", user_id)
    return Call(_function("user_orders", "text"), (user,), reader(answers.UserOrders))


def find_payment(payment_ref: str) -> Call[answers.FoundPayment | Refusal]:
    return Call(_function("find_payment", "text"), (payment_ref,), reader(answers.FoundPayment))


def item_availability(item_id: int) -> Call[answers.Availability | Refusal]:
    return Call(_function("item_availability", "bigint"), (item_id,), reader(answers.Availability))


# ---- for operators --------------------------------------------------------------------


def create_item(
    inventory: int,
    name: str | None = None,
    unit_price: int | None = None,
    currency: str | None = None,
    *,
    max_per_user: int | None = None,
    starts_at: datetime | None = None,
    ends_at: datetime | None = None,
    reservation_ttl: timedelta | None = None,
    item_id: int | None = None,
) -> Call[int]:
    """Puts an item on sale and returns its id. Repeatable only with an `item_id`, and then a
    repeat of a call that was carried out is an error: the id is taken."""
    types = ("bigint", "text", "bigint", "text", "int", "timestamptz", "timestamptz", "interval", "bigint")
    return Call(
        _function("create_item", *types),
        (inventory, name, unit_price, currency, max_per_user, starts_at, ends_at, reservation_ttl, item_id),
        int,
        repeatable=item_id is not None,
    )


def restock_item(
    item_id: int, delta: int, reason: str | None = None, *, idempotency_key: str | None = None
) -> Call[answers.Restocked | Refusal]:
    """Adds units, or removes free ones. Repeatable only with a key."""
    return Call(
        _function("restock_item", "bigint", "bigint", "text", "text"),
        (item_id, delta, reason, idempotency_key),
        reader(answers.Restocked),
        repeatable=idempotency_key is not None,
    )


def pause_item(item_id: int) -> Call[answers.Paused | Refusal]:
    return Call(_function("pause_item", "bigint"), (item_id,), reader(answers.Paused))


def resume_item(item_id: int) -> Call[answers.Paused | Refusal]:
    return Call(_function("resume_item", "bigint"), (item_id,), reader(answers.Paused))


def reconcile_stale_reservations(
    older_than: timedelta | None = None, max_orders: int = 1000
) -> Call[answers.Reconciled | Refusal]:
    return Call(
        _function("reconcile_stale_reservations", "interval", "int"),
        (older_than, max_orders),
        reader(answers.Reconciled),
    )


def refund_order(order: OrderName, *, restock: bool = True) -> Call[answers.OrderRefunded | Refusal]:
    """The payment of a confirmed order becomes due for refund."""
    return Call(
        _function("refund_order", "text", "boolean"),
        (_named(order), restock),
        reader(answers.OrderRefunded),
    )


def refund_payment(
    payment_ref: str, refund_ref: str | None = None
) -> Call[answers.PaymentRefunded | Refusal]:
    """Reports that a payment due was refunded at the gateway."""
    return Call(
        _function("refund_payment", "text", "text"),
        (payment_ref, refund_ref),
        reader(answers.PaymentRefunded),
    )


def payment_checks() -> Call[list[answers.PaymentCheck]]:
    """Orders in `paying` past their deadline, the oldest first."""
    return Call(_rows("payment_checks", "payment_deadline"), (), _list_of(answers.PaymentCheck))


def refunds_due() -> Call[list[answers.RefundDue]]:
    """Charges that are due for refund, the oldest first."""
    return Call(_rows("refunds_due", "due_since"), (), _list_of(answers.RefundDue))


def audit(item_id: int | None = None) -> Call[list[answers.BrokenInvariant]]:
    """Broken invariants, of one item or of all; an empty list when all is well."""
    of, arguments = ("audit()", ()) if item_id is None else ("audit(%s::bigint)", (item_id,))
    return Call(_rows(of, "invariant"), arguments, _list_of(answers.BrokenInvariant))


def health() -> Call[list[answers.Problem]]:
    """What needs a person; an empty list when all is well."""
    return Call(_rows("health()", "severity"), (), _list_of(answers.Problem))
