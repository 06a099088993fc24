"""Each call, and its answers."""

import asyncio
import pathlib
import re
import typing
import unittest
import uuid
from datetime import UTC, datetime, timedelta
from typing import Any

import psycopg
from psycopg.rows import dict_row

import flashsale_client as flashsale
from shop import ask, free_units, locked, open_async, open_connection, value


class Calls(unittest.TestCase):
    def setUp(self) -> None:
        self.item = ask(flashsale.create_item(10, "Console", 500, "EUR", max_per_user=3))

    def buy(self, user: flashsale.User, **options: Any) -> flashsale.Reservation:
        answer = ask(flashsale.purchase_item(self.item, user, **options))
        assert answer.success, answer
        return answer

    def test_from_purchase_to_refund(self) -> None:
        order = self.buy("alice", quantity=2, idempotency_key="basket 1")
        self.assertEqual((order.item_id, order.quantity, order.status), (self.item, 2, "reserved"))
        self.assertEqual((order.unit_price, order.currency), (500, "EUR"))
        self.assertEqual(order.remaining_inventory, 8)
        assert order.expires_at is not None
        self.assertGreater(order.expires_at, datetime.now(UTC))
        again = self.buy("alice", quantity=2, idempotency_key="basket 1")
        self.assertTrue(again.replayed)
        self.assertEqual(again.order_ref, order.order_ref)

        begun = ask(flashsale.begin_payment(order.order_ref, timedelta(minutes=5)))
        assert begun.success
        self.assertEqual((begun.order_ref, begun.status), (order.order_ref, "paying"))
        charge = f"charge {order.order_ref}"
        confirmed = ask(flashsale.confirm_order(order.order_ref, charge, 1000, "EUR"))
        assert confirmed.success
        self.assertFalse(confirmed.already_confirmed or confirmed.reinstated)
        second = ask(flashsale.confirm_order(order.order_id, f"{charge} again", 1000, "EUR"))
        assert not second.success
        self.assertEqual((second.reason, second.refund_required), ("duplicate_payment", True))

        found = ask(flashsale.get_order(order.order_ref))
        assert found.success
        self.assertEqual((found.user_id, found.total, found.closed_at), ("alice", 1000, None))
        self.assertEqual([p.status for p in found.payments], ["paid", "due"])
        payment = ask(flashsale.find_payment(f"{charge} again"))
        assert payment.success
        self.assertEqual((payment.why, payment.order_id), ("duplicate_payment", order.order_id))
        due = [row for row in ask(flashsale.refunds_due()) if row.order_id == order.order_id]
        self.assertEqual([row.payment_ref for row in due], [f"{charge} again"])
        refunded = ask(flashsale.refund_payment(f"{charge} again", "refund 1"))
        assert refunded.success
        self.assertEqual(refunded.refund_ref, "refund 1")

        gone = ask(flashsale.refund_order(order.order_ref, restock=False))
        assert gone.success
        self.assertEqual((gone.status, gone.restored, gone.written_off), ("refunded", 0, 2))

    def test_a_cancelled_order(self) -> None:
        order = self.buy(42)
        cancelled = ask(flashsale.cancel_order(order.order_ref, "changed my mind"))
        assert cancelled.success
        self.assertEqual((cancelled.restored, cancelled.already_closed), (1, False))
        begun = ask(flashsale.begin_payment(order.order_id))
        assert not begun.success
        self.assertEqual((begun.reason, begun.status), ("order_cancelled", "cancelled"))

    def test_an_order_is_named_by_its_id(self) -> None:
        order, other = self.buy("alice"), self.buy("bob")
        begun = ask(flashsale.begin_payment(order.order_id))
        confirmed = ask(flashsale.confirm_order(order.order_id, f"by id {order.order_ref}", 500, "EUR"))
        refunded = ask(flashsale.refund_order(order.order_id))
        cancelled = ask(flashsale.cancel_order(other.order_id))
        for answer in (begun, confirmed, refunded, cancelled):
            assert answer.success
            self.assertIsNone(answer.order_ref)

    def test_users_are_texts_numbers_and_uuids(self) -> None:
        user = uuid.uuid4()
        first, second = self.buy(user), self.buy(str(user))
        found = ask(flashsale.user_orders(user))
        assert found.success
        self.assertEqual(
            [order.order_ref for order in found.orders], [second.order_ref, first.order_ref]
        )

    def test_refusals_are_answers_with_their_fields(self) -> None:
        order = self.buy("bob", quantity=3)
        limit = ask(flashsale.purchase_item(self.item, "bob"))
        assert not limit.success
        self.assertEqual(limit.reason, "user_limit_reached")
        self.assertFalse(limit.retryable)
        self.assertTrue(limit.message)
        self.assertEqual((limit.max_per_user, limit.order_ids), (3, (order.order_id,)))
        with locked(self.item):
            busy = ask(flashsale.purchase_item(self.item, "carol", strategy="nowait"))
        assert not busy.success
        self.assertTrue(busy.retryable)
        assert busy.retry_after_ms is not None
        later = ask(flashsale.create_item(1, starts_at=datetime(2100, 1, 1, tzinfo=UTC)))
        early = ask(flashsale.purchase_item(later, "carol"))
        assert not early.success
        self.assertEqual(early.starts_at, datetime(2100, 1, 1, tzinfo=UTC))
        nobody = ask(flashsale.user_orders("nobody"))
        assert not nobody.success
        self.assertEqual((nobody.reason, nobody.user_id), ("user_not_found", "nobody"))

    def test_wrong_arguments_are_the_drivers_errors(self) -> None:
        nothing: Any = None
        for call, state in (
            (flashsale.purchase_item(self.item, "alice", 0), "22023"),
            (flashsale.purchase_item(self.item, nothing), "22004"),
            (flashsale.purchase_item(2**63, "alice"), "22003"),
            (flashsale.purchase_batch([{"item_id": self.item}]), "22004"),
        ):
            with self.subTest(state), self.assertRaises(psycopg.Error) as raised:
                ask(typing.cast("flashsale.Call[object]", call))
            self.assertEqual(raised.exception.sqlstate, state)
        nobody: Any
        for nobody in ([1], b"a", 1.5, True, "half \ud800"):
            with self.subTest(nobody), self.assertRaises(psycopg.Error) as raised:
                flashsale.purchase_item(self.item, nobody)
            self.assertEqual(raised.exception.sqlstate, "22023")

    def test_a_batch(self) -> None:
        requests: list[dict[str, object]] = [
            {"item_id": self.item, "user_id": "dave", "quantity": 3, "idempotency_key": "b"},
            {"item_id": self.item, "user_id": "dave"},
            {"item_id": self.item, "user_id": 7},
            {"item_id": self.item, "user_id": uuid.uuid4()},
        ]
        answers = ask(flashsale.purchase_batch(requests, strategy="atomic"))
        self.assertEqual([answer.success for answer in answers], [True, False, True, True])

    def test_operators_calls(self) -> None:
        more = ask(flashsale.restock_item(self.item, 5, "delivery", idempotency_key="note 1"))
        assert more.success
        self.assertEqual((more.stock, more.replayed), (15, False))
        paused = ask(flashsale.pause_item(self.item))
        assert paused.success and paused.paused
        shown = ask(flashsale.item_availability(self.item))
        assert shown.success
        self.assertEqual((shown.name, shown.state, shown.starts_at), ("Console", "paused", None))
        resumed = ask(flashsale.resume_item(self.item))
        assert resumed.success and not resumed.paused

        order = self.buy("erin")
        begun = ask(flashsale.begin_payment(order.order_ref, timedelta(microseconds=1)))
        assert begun.success
        checks = [c for c in ask(flashsale.payment_checks()) if c.order_ref == order.order_ref]
        self.assertEqual([(c.amount, c.user_id) for c in checks], [(500, "erin")])
        reconciled = ask(flashsale.reconcile_stale_reservations())
        assert reconciled.success and reconciled.payment_checks >= 1
        self.assertEqual(ask(flashsale.audit()), [])
        self.assertEqual(ask(flashsale.audit(self.item)), [])
        for problem in ask(flashsale.health()):
            self.assertIn(problem.severity, {"error", "warning"})

    def test_in_the_applications_transaction(self) -> None:
        with psycopg.connect("", row_factory=dict_row) as connection:
            with connection.transaction(force_rollback=True):
                answer = flashsale.run(connection, flashsale.purchase_item(self.item, "frank"))
                self.assertTrue(answer.success)
        self.assertEqual(free_units(self.item), 10)

    def test_nothing_is_prepared(self) -> None:
        with psycopg.connect("", autocommit=True) as connection:
            for _ in range(20):
                flashsale.run(connection, flashsale.item_availability(self.item))
            prepared = connection.execute("SELECT count(*) FROM pg_prepared_statements").fetchone()
        self.assertEqual(prepared, (0,))

    def test_the_same_calls_in_asyncio(self) -> None:
        async def buy() -> bool:
            async with await open_async() as connection:
                call = flashsale.purchase_item(self.item, "gina", strategy="grouped")
                return (await flashsale.run_async(connection, call)).success

        self.assertTrue(asyncio.run(buy()))

    def test_times_beyond_what_python_has(self) -> None:
        item = value(
            "SELECT flashsale.create_item(1, starts_at => '-infinity', ends_at => '20000-01-01')"
        )
        shown = ask(flashsale.item_availability(item))
        assert shown.success and shown.starts_at is not None and shown.ends_at is not None
        self.assertEqual((shown.starts_at.year, shown.ends_at.year), (1, 9999))

    def test_reasons_are_those_of_the_documentation(self) -> None:
        api = pathlib.Path(__file__).parents[3] / "docs" / "api.md"
        reasons = api.read_text().split("\n## Reasons\n")[1].split("\n## ")[0]
        documented = re.findall(r"^\| `(\w+)` \|", reasons, re.MULTILINE)
        self.assertEqual(sorted(typing.get_args(flashsale.Reason)), sorted(documented))

    def test_a_connection_is_left_as_it_was(self) -> None:
        with open_connection() as connection:
            with self.assertRaises(psycopg.Error):
                flashsale.run(connection, flashsale.purchase_item(self.item, ""))
            self.assertTrue(flashsale.run(connection, flashsale.purchase_item(self.item, "h")).success)
