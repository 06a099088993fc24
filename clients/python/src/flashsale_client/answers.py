"""The answers, as data classes that are read from the server's JSON.

Amounts are in minor units (cents). `success` tells an answer from a `Refusal`, also for type
checkers: after `if answer.success:` the fields of a successful answer are known to be there.
"""

import dataclasses
import types
import typing
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Literal, TypeVar

T = TypeVar("T")
Json = Mapping[str, Any]

Reason = Literal[
    "busy",
    "conflict",
    "item_not_found",
    "out_of_stock",
    "sale_not_started",
    "sale_ended",
    "sale_paused",
    "user_limit_reached",
    "idempotency_key_reused",
    "order_not_found",
    "order_expired",
    "order_cancelled",
    "order_refunded",
    "order_not_confirmed",
    "already_confirmed",
    "duplicate_payment",
    "payment_ref_in_use",
    "amount_mismatch",
    "payment_not_found",
    "payment_not_due",
    "user_not_found",
    "not_enough_free",
]
OrderStatus = Literal["reserved", "paying", "confirmed", "cancelled", "expired", "refunded"]
PaymentStatus = Literal["paid", "due", "refunded"]
ItemState = Literal["on_sale", "sold_out", "not_started", "ended", "paused"]


@dataclass(frozen=True, slots=True)
class Refusal:
    """A business outcome, not an error. The fields from `item_id` on are None if the reason has
    no such field."""

    reason: Reason
    message: str
    retryable: bool
    retry_after_ms: int | None = None
    item_id: int | None = None
    order_id: int | None = None
    order_ref: str | None = None
    status: OrderStatus | None = None
    remaining_inventory: int | None = None
    max_per_user: int | None = None
    order_ids: tuple[int, ...] | None = None
    starts_at: datetime | None = None
    ends_at: datetime | None = None
    refund_required: bool | None = None
    user_id: str | None = None
    payment_ref: str | None = None
    success: Literal[False] = False


@dataclass(frozen=True, slots=True)
class Reservation:
    """Units reserved by a purchase. `expires_at` is None if a replayed order is no longer
    `reserved`."""

    order_id: int
    order_ref: str
    item_id: int
    quantity: int
    status: OrderStatus
    remaining_inventory: int
    expires_at: datetime | None
    unit_price: int | None
    currency: str | None
    replayed: bool
    success: Literal[True] = True


@dataclass(frozen=True, slots=True)
class PaymentBegun:
    order_id: int
    order_ref: str | None  # None if the order was named by its id
    status: OrderStatus
    payment_deadline: datetime
    success: Literal[True] = True


@dataclass(frozen=True, slots=True)
class Confirmed:
    order_id: int
    order_ref: str | None  # None if the order was named by its id
    status: OrderStatus
    already_confirmed: bool
    reinstated: bool
    success: Literal[True] = True


@dataclass(frozen=True, slots=True)
class Cancelled:
    order_id: int
    order_ref: str | None  # None if the order was named by its id
    status: OrderStatus
    restored: int
    already_closed: bool
    success: Literal[True] = True


@dataclass(frozen=True, slots=True)
class Payment:
    payment_ref: str | None
    status: PaymentStatus
    why: Reason | None
    amount: int | None
    currency: str | None


@dataclass(frozen=True, slots=True)
class Order:
    order_id: int
    order_ref: str
    item_id: int
    user_id: str
    quantity: int
    status: OrderStatus
    unit_price: int | None
    currency: str | None
    total: int | None
    idempotency_key: str | None
    created_at: datetime
    expires_at: datetime | None
    paying_at: datetime | None
    payment_deadline: datetime | None
    confirmed_at: datetime | None
    closed_at: datetime | None
    close_reason: str | None
    payments: tuple[Payment, ...]
    success: Literal[True] = True


@dataclass(frozen=True, slots=True)
class UserOrders:
    user_id: str
    orders: tuple[Order, ...]
    success: Literal[True] = True


@dataclass(frozen=True, slots=True)
class FoundPayment:
    payment_ref: str
    order_id: int | None
    order_ref: str | None
    status: PaymentStatus
    why: Reason | None
    amount: int | None
    currency: str | None
    created_at: datetime
    due_since: datetime | None
    refunded_at: datetime | None
    refund_ref: str | None
    success: Literal[True] = True


@dataclass(frozen=True, slots=True)
class Availability:
    item_id: int
    name: str | None
    available: bool
    state: ItemState
    remaining_inventory: int
    unit_price: int | None
    currency: str | None
    max_per_user: int | None
    starts_at: datetime | None
    ends_at: datetime | None
    success: Literal[True] = True


@dataclass(frozen=True, slots=True)
class Restocked:
    item_id: int
    delta: int
    stock: int
    remaining_inventory: int
    replayed: bool
    success: Literal[True] = True


@dataclass(frozen=True, slots=True)
class Paused:
    item_id: int
    paused: bool
    success: Literal[True] = True


@dataclass(frozen=True, slots=True)
class Reconciled:
    expired: int
    restored: int
    skipped: int
    payment_checks: int
    more: bool
    success: Literal[True] = True


@dataclass(frozen=True, slots=True)
class OrderRefunded:
    order_id: int
    order_ref: str | None  # None if the order was named by its id
    status: OrderStatus
    restored: int
    written_off: int
    already_refunded: bool
    success: Literal[True] = True


@dataclass(frozen=True, slots=True)
class PaymentRefunded:
    payment_ref: str
    order_id: int | None
    order_ref: str | None
    status: PaymentStatus
    refund_ref: str | None
    already_refunded: bool
    success: Literal[True] = True


@dataclass(frozen=True, slots=True)
class PaymentCheck:
    """A row of the view `payment_checks`: ask the gateway, then confirm or cancel the order."""

    order_id: int
    order_ref: str
    item_id: int
    user_id: str
    quantity: int
    amount: int | None
    currency: str | None
    paying_at: datetime
    payment_deadline: datetime


@dataclass(frozen=True, slots=True)
class RefundDue:
    """A row of the view `refunds_due`: refund it at the gateway, then report it."""

    payment_ref: str | None
    order_id: int | None
    order_ref: str | None
    user_id: str | None
    amount: int | None
    currency: str | None
    due_since: datetime
    why: Reason


@dataclass(frozen=True, slots=True)
class BrokenInvariant:
    invariant: str
    item_id: int | None
    order_id: int | None
    payment_ref: str | None
    detail: str


@dataclass(frozen=True, slots=True)
class Problem:
    """A row of `health()`: something that needs a person."""

    severity: Literal["error", "warning"]
    problem: str
    detail: str
    hint: str


def reader(answer: type[T]) -> Callable[[Json], T | Refusal]:
    """Reads an answer of this class, or a refusal."""
    read, refuse = row_reader(answer), row_reader(Refusal)
    return lambda json: read(json) if json["success"] else refuse(json)


_row_readers: dict[Any, Callable[[Json], Any]] = {}


def row_reader(of: type[T]) -> Callable[[Json], T]:
    """Reads an object of this class. Fields that a later server adds are left out."""
    if of not in _row_readers:
        _row_readers[of] = _new_row_reader(of)
    return _row_readers[of]


def _new_row_reader(of: type[T]) -> Callable[[Json], T]:
    hints = {name: hint for name, hint in typing.get_type_hints(of).items() if name != "success"}
    converters = {name: _converter(hint) for name, hint in hints.items()}
    plain = [name for name, convert in converters.items() if convert is None]
    converted = [(name, convert) for name, convert in converters.items() if convert is not None]

    def read(json: Json) -> T:
        fields = {name: json.get(name) for name in plain}
        for name, convert in converted:
            if name in json:
                fields[name] = None if json[name] is None else convert(json[name])
        return of(**fields)

    return read


def _converter(hint: Any) -> Callable[[Any], Any] | None:
    """What makes a value of this type from JSON; None if JSON has it already."""
    if isinstance(hint, types.UnionType):
        hint = next(part for part in typing.get_args(hint) if part is not types.NoneType)
    if hint is datetime:
        return _moment
    if typing.get_origin(hint) is tuple:
        of: type[Any] = typing.get_args(hint)[0]
        if dataclasses.is_dataclass(of):
            return lambda rows: tuple(map(row_reader(of), rows))
        return tuple
    return None


def _moment(text: str) -> datetime:
    """Infinity, and years that Python does not have, become the last or first moment it has."""
    try:
        return datetime.fromisoformat(text)
    except ValueError:
        early = text.startswith("-") or text.endswith("BC")
        return (datetime.min if early else datetime.max).replace(tzinfo=UTC)
