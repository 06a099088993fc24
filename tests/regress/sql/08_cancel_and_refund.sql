-- cancel_order, refund_order and refund_payment: units come back once, money goes back once.
\pset tuples_only on
\pset format unaligned
\pset null (null)
CALL t.reset();
SELECT flashsale.create_item(20, unit_price => 250, currency => 'EUR', item_id => 1);
SELECT count(*) FROM unnest('{alice,bob,carol,dave,erin,frank,gina}'::text[]) AS who,
    flashsale.purchase_item(1, who, 2) AS answer WHERE answer -> 'success' = 'true';
SELECT t.stock(1);

-- cancel_order of a reserved and of a paying order, with and without a reason.
SELECT t.answer(flashsale.cancel_order(t.id('alice'), 'changed her mind'));
SELECT flashsale.begin_payment(t.id('bob')) ->> 'status';
SELECT t.answer(flashsale.cancel_order(t.id('bob')));
SELECT t.stock(1);
SELECT t.name(order_id), status, units_held, closed_at >= created_at, closed_by = session_user, close_reason,
       paying_at IS NOT NULL
FROM flashsale.orders WHERE user_id IN ('alice', 'bob') ORDER BY order_id;
-- A repeat restores nothing, and the first reason stays.
SELECT t.answer(flashsale.cancel_order(t.id('alice'), 'something else'));
SELECT t.answer(flashsale.cancel_order(t.id('bob'), 'something else'));
SELECT t.stock(1);
SELECT close_reason FROM flashsale.orders WHERE user_id IN ('alice', 'bob') ORDER BY order_id;
-- An expired order is closed already, a confirmed one is not cancelled but refunded.
CALL t.make_stale('carol');
SELECT flashsale.reconcile_stale_reservations() ->> 'expired';
SELECT t.answer(flashsale.cancel_order(t.id('carol')));
SELECT flashsale.confirm_order(t.id('dave'), 'pay-dave', 500, 'EUR') ->> 'status';
SELECT t.answer(flashsale.cancel_order(t.id('dave')));
SELECT t.answer(flashsale.cancel_order(id))
FROM unnest('{0,-1,12345,9223372036854775807,-9223372036854775808}'::bigint[]) AS id;
SELECT t.stock(1);
-- An overdue one that nobody expired is cancelled, and then not expired.
CALL t.make_stale('erin');
SELECT t.answer(flashsale.cancel_order(t.id('erin'), repeat('x', 255))) - 'reason';
SELECT flashsale.reconcile_stale_reservations() ->> 'expired';
SELECT t.stock(1);
-- One that was reinstated is confirmed.
SELECT flashsale.confirm_order(t.id('carol'), 'pay-carol') ->> 'reinstated';
SELECT t.answer(flashsale.cancel_order(t.id('carol')));
SELECT t.stock(1);

-- refund_order of a confirmed order: its units come back, its payment is due.
SELECT t.answer(flashsale.refund_order(t.id('dave')));
SELECT t.stock(1);
SELECT status, units_held, closed_at >= confirmed_at, closed_by = session_user
FROM flashsale.orders WHERE order_id = t.id('dave');
SELECT * FROM t.payments() WHERE name = 'dave';
SELECT t.answer(flashsale.refund_order(t.id('dave')));
SELECT t.answer(flashsale.refund_order(t.id('dave'), restock => false));
SELECT t.answer(flashsale.cancel_order(t.id('dave')));
SELECT t.stock(1);
SELECT count(*) FROM flashsale.stock_movements WHERE item_id = 1;
-- Without restock the units are removed from the stock, which a movement records.
SELECT t.answer(flashsale.refund_order(t.id('carol'), restock => false));
SELECT t.stock(1);
SELECT delta, t.name(order_id), moved_by = session_user
FROM flashsale.stock_movements WHERE item_id = 1 ORDER BY movement_id;
SELECT t.answer(flashsale.refund_order(t.id('carol'), restock => false));
SELECT t.answer(flashsale.refund_order(t.id('carol'), restock => true));
SELECT t.answer(flashsale.cancel_order(t.id('carol')));
SELECT t.stock(1);
SELECT count(*) FROM flashsale.stock_movements WHERE item_id = 1;
-- Only confirmed orders are refunded.
SELECT t.answer(flashsale.refund_order(t.id('frank')));
SELECT flashsale.begin_payment(t.id('frank')) ->> 'status';
SELECT t.answer(flashsale.refund_order(t.id('frank'), false));
SELECT t.answer(flashsale.refund_order(t.id('alice')));
CALL t.make_stale('gina');
SELECT flashsale.reconcile_stale_reservations() ->> 'expired';
SELECT t.answer(flashsale.refund_order(t.id('gina')));
SELECT t.answer(flashsale.refund_order(id))
FROM unnest('{0,-1,12345,9223372036854775807,-9223372036854775808}'::bigint[]) AS id;
SELECT t.stock(1);
-- One without a price, paid without a ref, and one written off whole with its item.
SELECT flashsale.create_item(1, item_id => 2), flashsale.purchase_item(2, 'hal', strategy => 'nowait') ->> 'success',
       flashsale.confirm_order(t.id('hal')) ->> 'status';
SELECT t.answer(flashsale.refund_order(t.id('hal'), restock => false));
SELECT t.stock(2);
SELECT * FROM t.payments() WHERE name = 'hal';
-- The units of a refunded order are sold again.
SELECT flashsale.create_item(1, item_id => 3), flashsale.purchase_item(3, 'ivy', strategy => 'nowait') ->> 'success',
       flashsale.confirm_order(t.id('ivy')) ->> 'status';
SELECT flashsale.purchase_item(3, 'jack', strategy => 'nowait') ->> 'reason', flashsale.refund_order(t.id('ivy')) ->> 'restored',
       flashsale.purchase_item(3, 'jack', strategy => 'nowait') ->> 'success';

-- refunds_due: one row a payment, until refund_payment.
SELECT payment_ref, t.name(order_id), user_id, amount, currency, due_since <= clock_timestamp(), why
FROM flashsale.refunds_due ORDER BY due_since;
SELECT t.answer(flashsale.refund_payment('pay-dave', 're-dave'));
SELECT refunded_at >= due_since FROM flashsale.payments WHERE payment_ref = 'pay-dave';
SELECT t.answer(flashsale.refund_payment('pay-dave', 're-dave'));
SELECT t.answer(flashsale.refund_payment('pay-dave', 're-other'));
SELECT t.answer(flashsale.refund_payment('pay-dave'));
SELECT t.answer(flashsale.refund_payment(payment_ref => 'pay-carol'));
SELECT t.answer(flashsale.refund_payment('pay-carol'));
SELECT t.answer(flashsale.refund_payment('pay-carol', 're-carol'));
SELECT * FROM t.payments();
SELECT payment_ref, t.name(order_id) FROM flashsale.refunds_due ORDER BY due_since;
-- One without a ref gets it, then it is refunded.
SELECT flashsale.confirm_order(t.id('hal'), 'pay-hal') ->> 'reason', flashsale.refund_payment('pay-hal') ->> 'status';
SELECT payment_ref, t.name(order_id) FROM flashsale.refunds_due ORDER BY due_since;
-- A payment that pays an order is not due, and an unknown one is answered as unknown.
SELECT flashsale.confirm_order(t.id('frank'), 'pay-frank') ->> 'status';
SELECT t.answer(flashsale.refund_payment('pay-frank', 're-frank'));
SELECT t.answer(flashsale.refund_payment('pay-nobody'));
SELECT t.answer(flashsale.refund_payment(repeat('x', 255), repeat('y', 255)));
-- A second charge for a confirmed order is refunded without touching the order.
SELECT flashsale.confirm_order(t.id('frank'), 'pay-frank-2') ->> 'reason',
       flashsale.refund_payment('pay-frank-2') ->> 'status';
SELECT * FROM t.orders() WHERE name = 'frank';
SELECT t.stock(1);
-- The same ref of a refund may serve several payments: a gateway may batch them.
SELECT flashsale.confirm_order(404, 'pay-a') ->> 'reason', flashsale.confirm_order(404, 'pay-b') ->> 'reason';
SELECT flashsale.refund_payment('pay-a', 're-all') ->> 'refund_ref',
       flashsale.refund_payment('pay-b', 're-all') ->> 'refund_ref';
SELECT * FROM flashsale.audit();
