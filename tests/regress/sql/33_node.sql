-- A server among several: the ids that it assigns, the ids that it refuses, and how its place changes.
SET flashsale.protect_data = off;
\pset tuples_only on
\pset format unaligned
\pset null (null)
CALL t.reset();
-- The remainders of all ids.
CREATE FUNCTION t.remainders(nodes bigint) RETURNS text LANGUAGE sql AS $$
    SELECT format('items %s orders %s payments %s movements %s',
        (SELECT array_agg(DISTINCT item_id % nodes) FROM flashsale.items),
        (SELECT array_agg(DISTINCT order_id % nodes) FROM flashsale.orders),
        (SELECT array_agg(DISTINCT payment_id % nodes) FROM flashsale.payments),
        (SELECT array_agg(DISTINCT movement_id % nodes) FROM flashsale.stock_movements))
$$;

-- Alone, it refuses no id.
SELECT flashsale.create_item(10, item_id => 7), flashsale.purchase_item(8, 'alice') ->> 'reason', flashsale.get_order(9) ->> 'reason';
CALL t.reset();

-- What a place is.
SELECT t.error(format('SELECT flashsale.set_node(%s)', place)) FROM unnest('{"NULL, 4","0, NULL","0, 0","0, -1","0, 1025","-1, 4","4, 4"}'::text[]) AS place;
SELECT t.error(format('INSERT INTO flashsale.node (node, nodes) VALUES (%s)', place)) FROM unnest('{"0, 0","0, 1025","-1, 4","4, 4"}'::text[]) AS place;
SELECT count(*) FROM flashsale.node;

-- Node 1 of 4. All that gets an id gets one of its own, under every strategy, by direct table access and by statements.
SELECT flashsale.set_node(1, 4);
SELECT * FROM flashsale.node;
SELECT flashsale.create_item(1000, unit_price => 100), flashsale.create_item(10), flashsale.create_item(10, item_id => 41);
SELECT flashsale.purchase_item(5, 'alice', strategy => 'nowait') ->> 'order_id', flashsale.purchase_item(5, 'alice', strategy => 'optimistic') ->> 'order_id',
       flashsale.purchase_item(5, 'alice', strategy => 'atomic') ->> 'order_id';
SELECT flashsale.purchase_item(5, 'alice', strategy => 'grouped') ->> 'order_id';
SELECT answer ->> 'order_id' FROM jsonb_array_elements(flashsale.purchase_batch(
    '[{"item_id":5,"user_id":"bob"},{"item_id":9,"user_id":"bob"},{"item_id":5,"user_id":"bob"}]')) AS answer;
BEGIN ISOLATION LEVEL REPEATABLE READ;
SELECT flashsale.purchase_item(5, 'carol') ->> 'order_id';
COMMIT;
SELECT flashsale.confirm_order(5, 'pay-1') ->> 'status', flashsale.confirm_order(t.ref('alice/2'), 'pay-2') ->> 'status';
SELECT flashsale.restock_item(5, 5) ->> 'success', flashsale.refund_order(5, false) ->> 'success';
SELECT t.remainders(4);

-- An id of another node is refused, by every function that takes one, and says whose it is.
SELECT call || ' -> ' || t.error('SELECT flashsale.' || call) FROM unnest(ARRAY[
    'purchase_item(7, ''alice'')', 'purchase_item(7, 1)', 'purchase_item(8, ''alice'', strategy => ''grouped'')',
    'purchase_batch(''[{"item_id":5,"user_id":"zoe"},{"item_id":6,"user_id":"zoe"}]'')',
    'begin_payment(7)', 'begin_payment(''7-0123456789'')', 'confirm_order(6, ''pay-3'')', 'confirm_order(''6-0123456789'', ''pay-3'')',
    'cancel_order(7)', 'cancel_order(''07'')', 'get_order(8)', 'get_order(''8-oiLabcdefg'')', 'refund_order(7)', 'refund_order(''7-0123456789'')',
    'item_availability(10)', 'restock_item(7, 1)', 'pause_item(7)', 'resume_item(7)', 'create_item(1, item_id => 42)', 'get_order(-1)']) AS call;
SELECT count(*) FROM flashsale.orders WHERE user_id = 'zoe';
SELECT count(*) FROM flashsale.items;
-- An id of its own that nothing has, and a name that no order has, get an answer.
SELECT flashsale.purchase_item(45, 'alice') ->> 'reason', flashsale.get_order(1001) ->> 'reason', flashsale.get_order('1001-0123456789') ->> 'reason',
       flashsale.get_order('no ref') ->> 'reason', flashsale.confirm_order(1001, 'pay-4') ->> 'refund_required';

-- With items, the place can only become a part of itself.
SELECT t.error(format('SELECT flashsale.set_node(%s)', place)) FROM unnest('{"2, 4","1, 6","2, 8","1, 2","0, 1"}'::text[]) AS place;
SELECT flashsale.set_node(1, 4);
SELECT max(order_id) AS last_order FROM flashsale.orders \gset
SELECT flashsale.set_node(5, 8);
-- What it has it keeps, whatever its id is. New ids are past the others.
SELECT flashsale.purchase_item(9, 'dave') ->> 'success', flashsale.restock_item(41, 1) ->> 'success', flashsale.create_item(1) % 8;
SELECT (flashsale.purchase_item(5, 'dave') ->> 'order_id')::bigint % 8, flashsale.get_order(t.id('alice/2')) ->> 'status',
       flashsale.cancel_order(t.ref('alice/4')) ->> 'status';
SELECT bool_and(order_id > :last_order AND order_id % 8 = 5) FROM flashsale.orders WHERE user_id = 'dave';
SELECT t.error('SELECT flashsale.get_order(1001)'), t.error('SELECT flashsale.create_item(1, item_id => 49)');
-- A place that is rolled back was never there.
BEGIN;
SELECT flashsale.set_node(13, 16);
SELECT (flashsale.purchase_item(5, 'erin') ->> 'order_id')::bigint % 16;
ROLLBACK;
SELECT (flashsale.purchase_item(5, 'erin') ->> 'order_id')::bigint % 8 FROM generate_series(1, 2);
BEGIN;
SAVEPOINT before;
SELECT flashsale.set_node(13, 16);
SELECT flashsale.create_item(1) % 16;
ROLLBACK TO before;
SELECT flashsale.create_item(1) % 8 FROM generate_series(1, 2);
COMMIT;
SELECT * FROM flashsale.audit();

-- A sequence behind its table is moved past it.
SELECT setval('flashsale.orders_order_id_seq', 1, false), setval('flashsale.payments_payment_id_seq', 1, false);
SELECT problem, severity FROM flashsale.health() WHERE problem ^@ 'sequence' ORDER BY detail;
SELECT (flashsale.purchase_item(5, 'frank') ->> 'order_id')::bigint % 8, flashsale.confirm_order(t.id('alice/3'), 'pay-5') ->> 'status';
SELECT t.remainders(4);
SELECT last_value * 8 + 5 >= (SELECT max(order_id) FROM flashsale.orders) FROM flashsale.orders_order_id_seq;
SELECT setval('flashsale.orders_order_id_seq', 1, false);
SELECT hint FROM flashsale.health() WHERE problem = 'sequence_behind' \gexec
SELECT problem FROM flashsale.health() WHERE problem = 'sequence_behind';
-- A higher id of another node, which was moved here, changes nothing.
SELECT max(order_id) AS last_order FROM flashsale.orders \gset
INSERT INTO flashsale.orders (order_id, item_id, quantity, units_held, created_at, closed_at, status, user_id)
VALUES (100002, 5, 1, 0, now(), now(), 'cancelled', 'moved');
UPDATE flashsale.items SET cancelled_units = cancelled_units + 1 WHERE item_id = 5;
SELECT flashsale.get_order(100002) ->> 'user_id';
SELECT problem FROM flashsale.health() WHERE problem = 'sequence_behind';
SELECT (flashsale.purchase_item(5, 'gina') ->> 'order_id')::bigint = :last_order + 8;

-- Ids end below 2^53.
SELECT last_value AS number FROM flashsale.orders_order_id_seq \gset
SELECT setval('flashsale.orders_order_id_seq', 9007199254740991 / 8 - 1);
SELECT problem FROM flashsale.health() WHERE problem ^@ 'sequence';
BEGIN;
SELECT flashsale.purchase_item(5, 'hal') ->> 'order_id';
ROLLBACK;
SELECT t.error('SELECT flashsale.purchase_item(5, ''hal'')');
SELECT setval('flashsale.orders_order_id_seq', :number);
SELECT * FROM flashsale.audit();

-- It is the owner's to set, part of the extension, and dumped.
CREATE ROLE regress_node;
SELECT flashsale.grant_app('regress_node'), flashsale.grant_operator('regress_node');
SET ROLE regress_node;
SELECT t.error('SELECT flashsale.set_node(5, 8)'), t.error('SELECT flashsale.next_id(''flashsale.orders_order_id_seq'')'), t.error('DELETE FROM flashsale.node');
SELECT node, nodes FROM flashsale.node;
SELECT (flashsale.purchase_item(5, 'ida') ->> 'order_id')::bigint % 8;
RESET ROLE;
DROP OWNED BY regress_node;
DROP ROLE regress_node;
SELECT 'flashsale.node'::regclass = ANY (extconfig) FROM pg_extension WHERE extname = 'flashsale';
SELECT problem FROM flashsale.health() WHERE problem IN ('not_registered', 'not_dumped', 'definition_missing');
RESET flashsale.protect_data;
SELECT t.error(statement) FROM unnest('{DROP TABLE flashsale.node,ALTER TABLE flashsale.node ADD COLUMN color text,ALTER TABLE flashsale.node RENAME TO nodes}'::text[]) AS statement;
SET flashsale.protect_data = off;

-- However the row is written, as by a restore, the next call knows it.
CALL t.reset();
DELETE FROM flashsale.node;
SELECT flashsale.create_item(1), flashsale.create_item(1);
COPY flashsale.node FROM stdin;
t	2	3
\.
SELECT flashsale.create_item(1), t.error('INSERT INTO flashsale.node (node, nodes) VALUES (0, 1)');
UPDATE flashsale.node SET node = 1;
SELECT flashsale.create_item(1);
TRUNCATE flashsale.node;
SELECT flashsale.create_item(1), flashsale.next_id('flashsale.items_item_id_seq'), flashsale.next_id(NULL);
CALL t.reset();
DROP FUNCTION t.remainders(bigint);
