-- begin_payment and confirm_order: every move of an order and every fate of a payment.
\pset tuples_only on
\pset format unaligned
\pset null (null)
CALL t.reset();
SELECT flashsale.create_item(100, unit_price => 250, currency => 'EUR', item_id => 1);
-- A sale each for the users of this file.
SELECT count(*) FROM unnest('{alice,bob,carol,dave,erin,frank,gina,hal,ivy,jack,kim,lea,max,nina,otto,pia}'::text[]) AS who,
    flashsale.purchase_item(1, who, 2) AS answer WHERE answer -> 'success' = 'true';

-- begin_payment: the deadline is set once, whatever a repeat asks for.
SELECT t.answer(flashsale.begin_payment(t.id('alice')));
SELECT payment_deadline - paying_at FROM flashsale.orders WHERE order_id = t.id('alice');
SELECT payment_deadline AS deadline, paying_at AS since FROM flashsale.orders WHERE order_id = t.id('alice') \gset
SELECT (flashsale.begin_payment(t.id('alice')) ->> 'payment_deadline')::timestamptz = :'deadline';
SELECT (flashsale.begin_payment(t.id('alice'), '7 days') ->> 'payment_deadline')::timestamptz = :'deadline';
SELECT (flashsale.begin_payment(t.id('alice'), '1 second') ->> 'payment_deadline')::timestamptz = :'deadline';
SELECT t.answer(flashsale.begin_payment(t.id('alice'), '1 hour'));
SELECT payment_deadline = :'deadline', paying_at = :'since' FROM flashsale.orders WHERE order_id = t.id('alice');
-- The window: argument, setting, limits.
SELECT flashsale.begin_payment(t.id('bob'), '1 microsecond') ->> 'status';
SELECT flashsale.begin_payment(t.id('carol'), '7 days') ->> 'status';
SET flashsale.payment_window = '90s';
SELECT flashsale.begin_payment(t.id('dave')) ->> 'status';
RESET flashsale.payment_window;
SELECT t.name(order_id), payment_deadline - paying_at
FROM flashsale.orders WHERE user_id IN ('bob', 'carol', 'dave') ORDER BY order_id;
-- An overdue reservation that nobody expired can still be paid; one in paying is not expired.
CALL t.make_stale('erin');
SELECT t.answer(flashsale.begin_payment(t.id('erin')));
SELECT flashsale.reconcile_stale_reservations() ->> 'expired';
SELECT t.answer(flashsale.begin_payment(id))
FROM unnest('{0,-1,12345,9223372036854775807,-9223372036854775808}'::bigint[]) AS id;

-- confirm_order: from paying, past its deadline, from reserved, from reserved and overdue.
SELECT t.answer(flashsale.confirm_order(t.id('alice'), 'pay-alice'));
SELECT t.answer(flashsale.confirm_order(t.id('bob'), 'pay-bob', 500, 'EUR'));
SELECT t.answer(flashsale.confirm_order(t.id('frank'), 'pay-frank', 500));
CALL t.make_stale('gina');
SELECT t.answer(flashsale.confirm_order(t.id('gina'), 'pay-gina', NULL, 'eur'));
SELECT t.answer(flashsale.begin_payment(t.id('gina')));
SELECT * FROM t.payments();
SELECT t.name(order_id), status, units_held, confirmed_at >= created_at, closed_at FROM flashsale.orders
WHERE user_id IN ('alice', 'bob', 'frank', 'gina') ORDER BY order_id;
-- Repeats change nothing and tell so.
SELECT t.answer(flashsale.confirm_order(t.id('alice'), 'pay-alice'));
SELECT t.answer(flashsale.confirm_order(t.id('bob'), 'pay-bob', 500, 'EUR'));
SELECT t.answer(flashsale.confirm_order(t.id('bob'), 'pay-bob'));
SELECT t.answer(flashsale.confirm_order(t.id('bob')));
SELECT count(*) FROM flashsale.payments;

-- Without a ref: one payment, which the first ref fills; the second ref is a second charge.
SELECT t.answer(flashsale.confirm_order(t.id('hal')));
SELECT t.answer(flashsale.confirm_order(t.id('hal')));
SELECT t.answer(flashsale.confirm_order(order_id => t.id('hal'), amount => 500, currency => 'EUR'));
SELECT * FROM t.payments() WHERE name = 'hal';
SELECT t.answer(flashsale.confirm_order(t.id('hal'), 'pay-hal'));
SELECT t.answer(flashsale.confirm_order(t.id('hal'), 'pay-hal'));
SELECT t.answer(flashsale.confirm_order(t.id('hal')));
SELECT * FROM t.payments() WHERE name = 'hal';
SELECT t.answer(flashsale.confirm_order(t.id('hal'), 'pay-hal-2'));
SELECT * FROM t.payments() WHERE name = 'hal';

-- duplicate_payment: due until refunded, and its fate is final.
SELECT t.answer(flashsale.confirm_order(t.id('alice'), 'pay-alice-2', 500, 'EUR'));
SELECT t.answer(flashsale.confirm_order(t.id('alice'), 'pay-alice-2', 500, 'EUR'));
SELECT t.answer(flashsale.confirm_order(t.id('alice'), 'pay-alice-3'));
SELECT t.answer(flashsale.refund_payment('pay-alice-2', 're-alice-2'));
SELECT t.answer(flashsale.confirm_order(t.id('alice'), 'pay-alice-2', 500, 'EUR'));
SELECT t.answer(flashsale.confirm_order(t.id('alice'), 'pay-alice'));
SELECT * FROM t.payments() WHERE name = 'alice';

-- payment_ref_in_use: a charge belongs to one order, whatever its status. Nothing is recorded.
SELECT t.answer(flashsale.confirm_order(t.id('ivy'), 'pay-alice'));
SELECT t.answer(flashsale.confirm_order(t.id('ivy'), 'pay-alice-3'));
SELECT t.answer(flashsale.confirm_order(t.id('ivy'), 'pay-alice-2'));
SELECT t.answer(flashsale.confirm_order(t.id('ivy'), 'pay-alice', 1, 'USD'));
SELECT t.answer(flashsale.confirm_order(12345, 'pay-alice'));
SELECT t.answer(flashsale.confirm_order(t.id('frank'), 'pay-alice'));
SELECT t.answer(flashsale.confirm_order(t.id('ivy')));
SELECT t.answer(flashsale.confirm_order(t.id('ivy'), 'pay-alice'));
SELECT t.answer(flashsale.confirm_order(t.id('ivy'), 'pay-ivy'));
SELECT * FROM t.payments() WHERE name IN ('ivy', '12345');

-- The order is unknown: the charge is due nevertheless.
SELECT t.answer(flashsale.confirm_order(404, 'pay-404', 700, 'usd'));
SELECT t.answer(flashsale.confirm_order(404, 'pay-404', 700, 'usd'));
SELECT t.answer(flashsale.confirm_order(404, 'pay-404-2'));
SELECT t.answer(flashsale.refund_payment('pay-404', 're-404'));
SELECT t.answer(flashsale.confirm_order(404, 'pay-404', 700, 'usd'));
-- Without a ref as well, once; the first ref fills it.
SELECT t.answer(flashsale.confirm_order(405));
SELECT t.answer(flashsale.confirm_order(405));
SELECT t.answer(flashsale.confirm_order(405, 'pay-405'));
SELECT t.answer(flashsale.confirm_order(405, 'pay-405'));
SELECT t.answer(flashsale.confirm_order(405, 'pay-405-2'));
SELECT t.answer(flashsale.confirm_order(id, 'pay' || id))
FROM unnest('{0,-1,9223372036854775807,-9223372036854775808}'::bigint[]) AS id;
SELECT * FROM t.payments() WHERE name ~ '^-?\d+$';

-- amount_mismatch: the charge is due, the order stays unchanged, and a correct charge still confirms it.
SELECT t.answer(flashsale.confirm_order(t.id('jack'), 'pay-jack-1', 499, 'EUR'));
SELECT t.answer(flashsale.confirm_order(t.id('jack'), 'pay-jack-2', 250));
SELECT t.answer(flashsale.confirm_order(t.id('jack'), 'pay-jack-3', 500, 'USD'));
SELECT t.answer(flashsale.confirm_order(t.id('jack'), 'pay-jack-4', NULL, 'USD'));
SELECT t.answer(flashsale.confirm_order(t.id('jack'), 'pay-jack-5', 0));
SELECT t.answer(flashsale.confirm_order(t.id('jack'), 'pay-jack-6', 9223372036854775807));
SELECT * FROM t.orders() WHERE name = 'jack';
SELECT t.answer(flashsale.confirm_order(t.id('jack'), 'pay-jack-1', 499, 'EUR'));
SELECT t.answer(flashsale.confirm_order(t.id('jack'), 'pay-jack-1', 500, 'EUR'));
SELECT t.answer(flashsale.refund_payment('pay-jack-1'));
SELECT t.answer(flashsale.confirm_order(t.id('jack'), 'pay-jack-1', 499, 'EUR'));
SELECT flashsale.begin_payment(t.id('jack')) ->> 'status';
SELECT t.answer(flashsale.confirm_order(t.id('jack'), 'pay-jack-7', 501, 'EUR'));
SELECT * FROM t.orders() WHERE name = 'jack';
SELECT t.answer(flashsale.confirm_order(t.id('jack'), 'pay-jack', 500, 'EUR'));
SELECT * FROM t.payments() WHERE name = 'jack';
-- Told of a known charge with another amount: still that charge. Told of another charge: due, whatever its amount.
SELECT t.answer(flashsale.confirm_order(t.id('jack'), 'pay-jack', 1, 'USD'));
SELECT t.answer(flashsale.confirm_order(t.id('jack'), 'pay-jack-8', 1, 'USD'));
SELECT * FROM t.payments() WHERE payment_ref IN ('pay-jack', 'pay-jack-8');
-- Without a ref: once, and only a charge at the same wrong price fills it.
SELECT t.answer(flashsale.confirm_order(t.id('otto'), amount => 499));
SELECT t.answer(flashsale.confirm_order(t.id('otto'), amount => 499));
SELECT t.answer(flashsale.confirm_order(t.id('otto'), 'pay-otto-1', 499));
SELECT t.answer(flashsale.confirm_order(t.id('otto'), 'pay-otto', 500));
SELECT * FROM t.payments() WHERE name = 'otto';
SELECT t.answer(flashsale.confirm_order(t.id('pia'), amount => 499));
SELECT t.answer(flashsale.confirm_order(t.id('pia'), 'pay-pia', 500));
SELECT t.answer(flashsale.confirm_order(t.id('pia')));
SELECT t.answer(flashsale.confirm_order(t.id('pia'), 'pay-pia-1', 499));
SELECT * FROM t.payments() WHERE name = 'pia';
-- A paid order's payment without a ref is not filled by a charge at another price.
SELECT t.answer(flashsale.confirm_order(t.id('carol')));
SELECT t.answer(flashsale.confirm_order(t.id('carol'), 'pay-carol-2', 499));
SELECT t.answer(flashsale.confirm_order(t.id('carol'), 'pay-carol', 500));
SELECT * FROM t.payments() WHERE name = 'carol';
-- What fills a payment due for refund says how much there is to give back.
SELECT flashsale.cancel_order(t.id('dave')) ->> 'status';
SELECT t.answer(flashsale.confirm_order(t.id('dave')));
SELECT t.answer(flashsale.confirm_order(t.id('dave'), 'pay-dave', 7, 'USD'));
SELECT * FROM t.payments() WHERE name = 'dave';
-- An order without a price takes any amount, one without a currency any currency.
SELECT flashsale.create_item(5, item_id => 2), flashsale.create_item(5, unit_price => 3, item_id => 3);
SELECT flashsale.purchase_item(2, 'quin') ->> 'success', flashsale.purchase_item(3, 'rosa', 2) ->> 'success';
SELECT t.answer(flashsale.confirm_order(t.id('quin'), 'pay-quin', 123, 'JPY'));
SELECT t.answer(flashsale.confirm_order(t.id('rosa'), 'pay-rosa', 6, 'JPY'));
SELECT * FROM t.payments() WHERE name IN ('quin', 'rosa');
-- Units at a price of nothing.
SELECT flashsale.create_item(5, unit_price => 0, item_id => 4), flashsale.purchase_item(4, 'sam', strategy => 'nowait') ->> 'success';
SELECT t.answer(flashsale.confirm_order(t.id('sam'), 'pay-sam-1', 1));
SELECT t.answer(flashsale.confirm_order(t.id('sam'), 'pay-sam', 0));

-- A late charge for an expired order takes the units again while they are free, whatever limit and window say.
SELECT flashsale.create_item(2, unit_price => 5, currency => 'EUR', max_per_user => 1, item_id => 5);
SELECT flashsale.purchase_item(5, 'tess') ->> 'success';
CALL t.make_stale('tess');
SELECT flashsale.reconcile_stale_reservations() ->> 'restored';
SELECT flashsale.purchase_item(5, 'tess') ->> 'success';
SELECT t.answer(flashsale.begin_payment(t.id('tess')));
SELECT flashsale.pause_item(5) ->> 'success';
UPDATE flashsale.items SET ends_at = now() WHERE item_id = 5;
SELECT t.stock(5);
SELECT t.answer(flashsale.confirm_order(t.id('tess'), 'pay-tess', 5, 'EUR'));
SELECT t.stock(5);
SELECT status, units_held, closed_at, closed_by, close_reason, confirmed_at IS NOT NULL
FROM flashsale.orders WHERE order_id = t.id('tess');
SELECT t.answer(flashsale.confirm_order(t.id('tess'), 'pay-tess', 5, 'EUR'));
SELECT t.answer(flashsale.confirm_order(t.id('tess')));
SELECT t.stock(5);
-- Without a ref too.
SELECT flashsale.create_item(1, item_id => 6), flashsale.purchase_item(6, 'uma', strategy => 'nowait') ->> 'success';
CALL t.make_stale('uma');
SELECT flashsale.reconcile_stale_reservations() ->> 'expired';
SELECT t.answer(flashsale.confirm_order(t.id('uma')));
SELECT t.answer(flashsale.confirm_order(t.id('uma'), 'pay-uma'));
SELECT t.stock(6);
-- An amount that differs does not.
SELECT flashsale.create_item(1, unit_price => 5, item_id => 7), flashsale.purchase_item(7, 'vera', strategy => 'nowait') ->> 'success';
CALL t.make_stale('vera');
SELECT flashsale.reconcile_stale_reservations() ->> 'expired';
SELECT t.answer(flashsale.confirm_order(t.id('vera'), 'pay-vera-1', 4));
SELECT t.stock(7);
SELECT t.answer(flashsale.confirm_order(t.id('vera'), 'pay-vera', 5));
SELECT t.stock(7);

-- If the units are sold, the charge is due, and stays due when units are free again. Another charge is another matter.
SELECT flashsale.create_item(1, unit_price => 5, currency => 'EUR', item_id => 8),
       flashsale.purchase_item(8, 'walt', strategy => 'nowait') ->> 'success';
CALL t.make_stale('walt');
SELECT flashsale.reconcile_stale_reservations() ->> 'expired';
SELECT flashsale.purchase_item(8, 'xena') ->> 'success';
SELECT t.answer(flashsale.confirm_order(t.id('walt'), 'pay-walt', 5, 'EUR'));
SELECT t.answer(flashsale.confirm_order(t.id('walt'), 'pay-walt', 5, 'EUR'));
SELECT flashsale.cancel_order(t.id('xena')) ->> 'restored';
SELECT t.answer(flashsale.confirm_order(t.id('walt'), 'pay-walt', 5, 'EUR'));
SELECT t.answer(flashsale.refund_payment('pay-walt', 're-walt'));
SELECT t.answer(flashsale.confirm_order(t.id('walt'), 'pay-walt', 5, 'EUR'));
SELECT t.stock(8);
SELECT t.answer(flashsale.confirm_order(t.id('walt'), 'pay-walt-2', 5, 'EUR'));
SELECT t.stock(8);
SELECT t.answer(flashsale.confirm_order(t.id('walt'), 'pay-walt', 5, 'EUR'));
SELECT * FROM t.payments() WHERE name = 'walt';
-- The browser reports without a ref what the webhook reported with one: the same charge, which does not reinstate.
SELECT flashsale.create_item(1, unit_price => 5, item_id => 11), flashsale.purchase_item(11, 'otis', strategy => 'nowait') ->> 'success';
CALL t.make_stale('otis');
SELECT flashsale.reconcile_stale_reservations() ->> 'expired', flashsale.restock_item(11, -1) ->> 'success';
SELECT t.answer(flashsale.confirm_order(t.id('otis'), 'pay-otis'));
SELECT flashsale.restock_item(11, 1) ->> 'success';
SELECT t.answer(flashsale.confirm_order(t.id('otis')));
SELECT t.answer(flashsale.refund_payment('pay-otis'));
SELECT t.answer(flashsale.confirm_order(t.id('otis')));
SELECT * FROM t.payments() WHERE name = 'otis';
SELECT t.stock(11);
-- Without a ref: due once, the first ref fills it and does not reinstate.
SELECT flashsale.create_item(1, item_id => 9), flashsale.purchase_item(9, 'yves', strategy => 'nowait') ->> 'success';
CALL t.make_stale('yves');
SELECT flashsale.reconcile_stale_reservations() ->> 'expired';
SELECT flashsale.purchase_item(9, 'zoe') ->> 'success';
SELECT t.answer(flashsale.confirm_order(t.id('yves')));
SELECT flashsale.cancel_order(t.id('zoe')) ->> 'restored';
SELECT t.answer(flashsale.confirm_order(t.id('yves')));
SELECT t.answer(flashsale.confirm_order(t.id('yves'), 'pay-yves'));
SELECT t.answer(flashsale.confirm_order(t.id('yves'), 'pay-yves'));
SELECT * FROM t.payments() WHERE name = 'yves';
SELECT t.stock(9);
-- A second ref is a second charge.
SELECT t.answer(flashsale.confirm_order(t.id('yves'), 'pay-yves-2'));
SELECT * FROM t.payments() WHERE name = 'yves';
SELECT t.stock(9);
-- Only as many units as are free.
SELECT flashsale.create_item(3, item_id => 10), flashsale.purchase_item(10, 'abel', 2, strategy => 'nowait') ->> 'success';
CALL t.make_stale('abel');
SELECT flashsale.reconcile_stale_reservations() ->> 'restored';
SELECT flashsale.purchase_item(10, 'babs', 2) ->> 'success';
SELECT t.answer(flashsale.confirm_order(t.id('abel'), 'pay-abel'));
SELECT t.stock(10);

-- Cancelled and refunded orders do not come back: the charge is due.
SELECT flashsale.cancel_order(t.id('kim')) ->> 'status';
SELECT t.answer(flashsale.begin_payment(t.id('kim')));
SELECT t.answer(flashsale.confirm_order(t.id('kim'), 'pay-kim', 500, 'EUR'));
SELECT t.answer(flashsale.confirm_order(t.id('kim'), 'pay-kim', 500, 'EUR'));
SELECT t.answer(flashsale.confirm_order(t.id('kim'), 'pay-kim-2'));
SELECT flashsale.cancel_order(t.id('lea')) ->> 'status';
SELECT t.answer(flashsale.confirm_order(t.id('lea')));
SELECT t.answer(flashsale.confirm_order(t.id('lea')));
SELECT t.answer(flashsale.confirm_order(t.id('lea'), 'pay-lea'));
SELECT t.answer(flashsale.confirm_order(t.id('lea'), 'pay-lea'));
SELECT flashsale.confirm_order(t.id('max'), 'pay-max') ->> 'status', flashsale.refund_order(t.id('max')) ->> 'status';
SELECT t.answer(flashsale.begin_payment(t.id('max')));
SELECT t.answer(flashsale.confirm_order(t.id('max'), 'pay-max'));
SELECT t.answer(flashsale.confirm_order(t.id('max')));
SELECT t.answer(flashsale.confirm_order(t.id('max'), 'pay-max-2'));
SELECT t.answer(flashsale.refund_payment('pay-max', 're-max'));
SELECT t.answer(flashsale.confirm_order(t.id('max'), 'pay-max'));
-- A payment without a ref that became due with its order is filled as well.
SELECT flashsale.confirm_order(t.id('nina')) ->> 'status', flashsale.refund_order(t.id('nina')) ->> 'status';
SELECT t.answer(flashsale.confirm_order(t.id('nina')));
SELECT t.answer(flashsale.confirm_order(t.id('nina'), 'pay-nina'));
SELECT t.answer(flashsale.confirm_order(t.id('nina'), 'pay-nina-2'));
SELECT * FROM t.payments() WHERE name IN ('kim', 'lea', 'max', 'nina');

-- Every charge that was reported is there once, and pays one confirmed order or is due or refunded.
SELECT * FROM t.payments();
SELECT t.stock(item_id) FROM flashsale.items ORDER BY item_id;
SELECT * FROM flashsale.audit();
-- A report without a ref and one with it are the same charge unless both name an amount and it differs.
CALL t.reset();
SELECT flashsale.create_item(20, unit_price => 500, currency => 'EUR', item_id => 1), flashsale.create_item(5, item_id => 2);
SELECT t.answer(flashsale.purchase_item(1, name)) FROM unnest(ARRAY['ann', 'ben', 'cal', 'dot', 'eve', 'fay']) AS name;
SELECT t.answer(flashsale.purchase_item(2, 'gus'));
-- The refund due is what was charged, not the order's price.
SELECT t.answer(flashsale.cancel_order(t.id('ann')));
SELECT t.answer(flashsale.confirm_order(t.id('ann'), NULL, 300));
SELECT t.answer(flashsale.confirm_order(t.id('ann'), 'ref-a'));
-- The ref of a charge off the price does not pay the order.
SELECT t.answer(flashsale.confirm_order(t.id('ben'), NULL, 400));
SELECT t.answer(flashsale.confirm_order(t.id('ben'), 'ref-b'));
-- Two charges of two amounts are two charges, both off the price, or the second at it.
SELECT t.answer(flashsale.confirm_order(t.id('cal'), NULL, 400));
SELECT t.answer(flashsale.confirm_order(t.id('cal'), 'ref-c', 300));
SELECT t.answer(flashsale.confirm_order(t.id('dot'), 'ref-d', 400));
SELECT t.answer(flashsale.confirm_order(t.id('dot'), NULL, 500));
-- A second charge of a paid order, without a ref and of another amount, is due.
SELECT t.answer(flashsale.confirm_order(t.id('eve'), 'ref-e', 500));
SELECT t.answer(flashsale.confirm_order(t.id('eve'), NULL, 300));
SELECT t.answer(flashsale.confirm_order(t.id('eve'), NULL, 300));
-- The browser, without a ref or an amount, after a webhook off the price: the same charge.
SELECT t.answer(flashsale.confirm_order(t.id('fay'), 'ref-f', 499));
SELECT t.answer(flashsale.confirm_order(t.id('fay')));
-- An order without a price is paid by the first charge, and a second of another amount is due.
SELECT t.answer(flashsale.confirm_order(t.id('gus'), NULL, 500));
SELECT t.answer(flashsale.confirm_order(t.id('gus'), 'ref-g', 700));
SELECT payment_ref, o.user_id, p.amount, p.status, p.why
FROM flashsale.payments p JOIN flashsale.orders o USING (order_id) ORDER BY payment_id;
SELECT payment_ref, user_id, amount, currency FROM flashsale.refunds_due ORDER BY due_since;
SELECT * FROM flashsale.audit();
-- A second charge without a ref cannot be told from the first unless it differs, and then needs its ref.
CALL t.reset();
SELECT flashsale.create_item(20, unit_price => 500, currency => 'EUR', item_id => 1);
SELECT t.answer(flashsale.purchase_item(1, 'ann'));
SELECT t.answer(flashsale.confirm_order(t.id('ann'), NULL, 500));
SELECT t.answer(flashsale.confirm_order(t.id('ann'), NULL, 500, 'EUR'));
SELECT t.answer(flashsale.confirm_order(t.id('ann'), NULL, 70));
SELECT t.answer(flashsale.confirm_order(t.id('ann'), NULL, 500, 'USD'));
SELECT t.answer(flashsale.confirm_order(t.id('ann'), 'ref-70', 70));
-- A charge reported before there was such an order is not about the order.
SELECT t.answer(flashsale.confirm_order(1000002)), t.answer(flashsale.confirm_order(1000003, 'stray'));
SELECT setval('flashsale.orders_order_id_seq', 1000001);
SELECT t.answer(flashsale.purchase_item(1, 'ben'));
SELECT t.answer(flashsale.confirm_order(t.id('ben'), 'ref-b', 500));
SELECT t.answer(flashsale.purchase_item(1, 'cal'));
SELECT t.answer(flashsale.confirm_order(t.id('cal'), NULL, 500));
SELECT t.answer(flashsale.confirm_order(t.id('cal'), 'stray'));
SELECT payment_ref, order_id > 1000000, amount, status, why FROM flashsale.payments ORDER BY payment_id;
SELECT * FROM flashsale.audit();
