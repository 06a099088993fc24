-- purchase_batch: independent purchases in one call, each with its own answer.
SET flashsale.protect_data = off;
CALL t.reset();
SELECT flashsale.create_item(6, unit_price => 100, currency => 'EUR', item_id => 1),
       flashsale.create_item(2, max_per_user => 1, item_id => 2),
       flashsale.create_item(0, item_id => 3),
       flashsale.create_item(1, starts_at => '2126-01-01', item_id => 4),
       flashsale.create_item(1, ends_at => '2026-01-01', item_id => 5),
       flashsale.create_item(1, item_id => 6), flashsale.pause_item(6) ->> 'success';

-- Every outcome, in the order of the requests, whatever the order of their items. What does
-- not fit does not block what does; a limit and a key hold within the batch too.
SELECT nth, t.answer(answer) FROM jsonb_array_elements(flashsale.purchase_batch('[
    {"item_id": 2, "user_id": "alice", "idempotency_key": "k"},
    {"item_id": 1, "user_id": "alice", "quantity": 2, "idempotency_key": "k"},
    {"item_id": 1, "user_id": "bob", "quantity": 5},
    {"item_id": 1, "user_id": "alice", "quantity": 2, "idempotency_key": "k"},
    {"item_id": 1, "user_id": "alice", "quantity": 1, "idempotency_key": "k"},
    {"item_id": 1, "user_id": "bob", "quantity": 4},
    {"item_id": 1, "user_id": "carol"},
    {"item_id": 2, "user_id": "alice"},
    {"item_id": 2, "user_id": "alice", "idempotency_key": "k"},
    {"item_id": 2, "user_id": "bob", "quantity": 2},
    {"item_id": 3, "user_id": "bob"},
    {"item_id": 4, "user_id": "bob"},
    {"item_id": 5, "user_id": "bob"},
    {"item_id": 6, "user_id": "bob"},
    {"item_id": 7, "user_id": "bob"}]')) WITH ORDINALITY AS a (answer, nth);
SELECT t.stock(1), t.stock(2);
SELECT item_id, user_id, quantity, idempotency_key FROM flashsale.orders ORDER BY order_id;

-- Keys of earlier calls are known, those of dead orders too.
SELECT flashsale.cancel_order(order_id) ->> 'status' FROM flashsale.orders WHERE item_id = 2;
SELECT nth, t.answer(answer) FROM jsonb_array_elements(flashsale.purchase_batch('[
    {"item_id": 1, "user_id": "alice", "quantity": 2, "idempotency_key": "k"},
    {"item_id": 1, "user_id": "alice", "quantity": 3, "idempotency_key": "k"},
    {"item_id": 2, "user_id": "alice", "idempotency_key": "k"},
    {"item_id": 2.0, "user_id": 42, "quantity": 1.0},
    {"item_id": 2, "user_id": "42"}]')) WITH ORDINALITY AS a (answer, nth);

-- No requests, and the most that are allowed.
SELECT flashsale.purchase_batch('[]');
SELECT flashsale.restock_item(1, 1000) ->> 'success';
SELECT answer ->> 'success', count(*)
FROM jsonb_array_elements(flashsale.purchase_batch(
    (SELECT jsonb_agg(jsonb_build_object('item_id', 1, 'user_id', n)) FROM generate_series(1, 1000) n))) AS a (answer)
GROUP BY 1;
SELECT t.stock(1);

-- A malformed list raises an error, and nothing is sold.
SELECT count(*) AS before FROM flashsale.orders \gset
SELECT requests || ' -> ' || t.error(format('SELECT flashsale.purchase_batch(%L)', requests)) FROM (VALUES
    ('{}'), ('1'), ('"x"'), ('null'), ('[1]'), ('[null]'), ('[[]]'),
    ('[{"item_id": 1, "user_id": "bob"}, {}]'),
    ('[{"item_id": 1}]'),
    ('[{"user_id": "bob"}]'),
    ('[{"item_id": null, "user_id": "bob"}]'),
    ('[{"item_id": 1, "user_id": null}]'),
    ('[{"item_id": 1, "user_id": "bob", "quantity": null}]'),
    ('[{"item_id": "1", "user_id": "bob"}]'),
    ('[{"item_id": 1.5, "user_id": "bob"}]'),
    ('[{"item_id": 1e30, "user_id": "bob"}]'),
    ('[{"item_id": 9223372036854775808, "user_id": "bob"}]'),
    ('[{"item_id": 1, "user_id": ""}]'),
    ('[{"item_id": 1, "user_id": true}]'),
    ('[{"item_id": 1, "user_id": 1.5}]'),
    ('[{"item_id": 1, "user_id": "bob", "quantity": 0}]'),
    ('[{"item_id": 1, "user_id": "bob", "quantity": -1}]'),
    ('[{"item_id": 1, "user_id": "bob", "quantity": "2"}]'),
    ('[{"item_id": 1, "user_id": "bob", "idempotency_key": ""}]'),
    ('[{"item_id": 1, "user_id": "bob", "idempotency_key": 7}]'),
    ('[{"item_id": 1, "user_id": "bob", "quantitiy": 2}]')) AS v (requests);
SELECT t.error('SELECT flashsale.purchase_batch(NULL)');
SELECT t.error($$SELECT flashsale.purchase_batch(
    (SELECT jsonb_agg(jsonb_build_object('item_id', 1, 'user_id', n)) FROM generate_series(1, 1001) n))$$);
SELECT t.error($$SELECT flashsale.purchase_batch(jsonb_build_array(
    jsonb_build_object('item_id', 1, 'user_id', 'bob'), jsonb_build_object('item_id', 1, 'user_id', repeat('x', 256))))$$);
SELECT count(*) = :before AS nothing_sold FROM flashsale.orders;

-- Numbers are exact, however large or long, and what is nested deeply is no field's value.
SELECT left(requests, 60) || ' -> ' || t.error(format('SELECT flashsale.purchase_batch(%L)', requests)) FROM (VALUES
    ('[{"item_id": 1e400, "user_id": "bob"}]'),
    ('[{"item_id": -1e400, "user_id": "bob"}]'),
    ('[{"item_id": 1.00000000000000000000000000000001, "user_id": "bob"}]'),
    ('[{"item_id": 1, "user_id": "bob", "quantity": 1e-400}]'),
    ('[{"item_id": 1, "user_id": 9223372036854775808}]'),
    ('[{"item_id": 1, "user_id": ' || repeat('[', 1000) || repeat(']', 1000) || '}]'),
    ('[{"item_id": 1, "user_id": ' || repeat('{"a":', 1000) || '1' || repeat('}', 1000) || '}]'),
    (repeat('[', 1000) || repeat(']', 1000)),
    ('[{"item_id": 1, "user_id": "bob", "zone": 1, "area": 2}]')) AS v (requests);
SELECT answer ->> 'item_id', answer ->> 'reason' FROM jsonb_array_elements(flashsale.purchase_batch('[
    {"item_id": 9007199254740993, "user_id": "bob"}, {"item_id": 9.007199254740993e15, "user_id": "bob"},
    {"item_id": 9223372036854775807.00, "user_id": "bob"}, {"item_id": -9223372036854775808, "user_id": 1e3}]')) AS answer;

-- The strategy of the call, or of the session. Under grouped, too, it is part of the caller's transaction.
SELECT requests || ' -> ' || t.error(format('SELECT flashsale.purchase_batch(%L, %L)', requests, strategy)) FROM (VALUES
    ('[]', ''), ('[]', 'fastest'), ('[{"item_id": 1}]', 'fastest')) AS v (requests, strategy);
SELECT t.error($$SELECT flashsale.purchase_batch(NULL, 'atomic')$$);
BEGIN;
SELECT flashsale.restock_item(1, 12) ->> 'success';
SELECT strategy, nth, t.answer(answer)
FROM unnest('{nowait,optimistic,atomic,grouped,NULL}'::text[]) AS strategy,
     jsonb_array_elements(flashsale.purchase_batch(
         '[{"item_id": 1, "user_id": "dave"}, {"item_id": 1, "user_id": "erin"}, {"item_id": 3, "user_id": "dave"}]',
         strategy => strategy)) WITH ORDINALITY AS a (answer, nth);
SET LOCAL flashsale.strategy = 'grouped';
SELECT flashsale.purchase_batch('[{"item_id": 1, "user_id": "dave"}]') -> 0 ->> 'success';
ROLLBACK;
SELECT count(*) = :before AS nothing_sold FROM flashsale.orders;
SELECT * FROM flashsale.audit();

-- What a shop adds to the table holds for one order and for many: a constraint, a column with
-- a default, a trigger.
CALL t.reset();
SELECT flashsale.create_item(20, item_id => 1);
ALTER TABLE flashsale.orders ADD CONSTRAINT no_zoe CHECK (user_id <> 'zoe');
CREATE UNIQUE INDEX one_each ON flashsale.orders (user_id) WHERE quantity = 3;
SELECT t.error($$SELECT flashsale.purchase_item(1, 'zoe')$$);
SELECT t.error($$SELECT flashsale.purchase_batch('[{"item_id": 1, "user_id": "alice"}, {"item_id": 1, "user_id": "zoe"}]')$$);
SELECT t.error($$SELECT flashsale.purchase_batch('[{"item_id": 1, "user_id": "bob", "quantity": 3}, {"item_id": 1, "user_id": "bob", "quantity": 3}]')$$);
ALTER TABLE flashsale.orders DROP CONSTRAINT no_zoe;
DROP INDEX flashsale.one_each;
SELECT count(*) FROM flashsale.orders;
CREATE TABLE t.log (order_id bigint, user_id text);
CREATE FUNCTION t.log() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO t.log VALUES (NEW.order_id, NEW.user_id);
    RETURN NEW;
END $$;
CREATE TRIGGER log AFTER INSERT ON flashsale.orders FOR EACH ROW EXECUTE FUNCTION t.log();
SELECT flashsale.purchase_item(1, 'alice') ->> 'success',
       jsonb_array_length(flashsale.purchase_batch('[{"item_id": 1, "user_id": "bob"}, {"item_id": 1, "user_id": "carol"}]'));
DROP TRIGGER log ON flashsale.orders;
SELECT user_id FROM t.log JOIN flashsale.orders USING (order_id, user_id) ORDER BY order_id;
DROP TABLE t.log;
DROP FUNCTION t.log();
BEGIN;
ALTER TABLE flashsale.orders ADD COLUMN channel text DEFAULT 'web';
SELECT flashsale.purchase_item(1, 'dave') ->> 'success',
       jsonb_array_length(flashsale.purchase_batch('[{"item_id": 1, "user_id": "erin"}, {"item_id": 1, "user_id": "frank"}]'));
SELECT user_id, channel FROM flashsale.orders WHERE user_id IN ('dave', 'erin', 'frank') ORDER BY order_id;
ROLLBACK;
-- A column of another type, and one with another default.
BEGIN;
ALTER TABLE flashsale.orders ALTER created_at TYPE date, ALTER closed_by SET DEFAULT 'nobody';
SELECT flashsale.purchase_item(1, 'dave') ->> 'success';
SELECT created_at = current_date AS today, closed_by FROM flashsale.orders WHERE user_id = 'dave';
ROLLBACK;
SELECT t.stock(1);
SELECT * FROM flashsale.audit();

-- A batch holds the items that it has bought, so pauses between attempts at others, too, end after flashsale.lock_wait.
CALL t.reset();
SELECT flashsale.create_item(10, item_id => 1), flashsale.create_item(10, item_id => 2);
BEGIN;
SELECT item_id FROM flashsale.items WHERE item_id = 2 FOR UPDATE;
PREPARE TRANSACTION 'other';
SET flashsale.nowait_retries = 100;
SET flashsale.retry_delay = '1s';
SET flashsale.lock_wait = '50ms';
SET statement_timeout = '1min';
SELECT nth, answer ->> 'status' AS status, answer ->> 'reason' AS reason
FROM jsonb_array_elements(flashsale.purchase_batch(
    '[{"item_id": 1, "user_id": "dave"}, {"item_id": 2, "user_id": "dave"}]', 'nowait')) WITH ORDINALITY AS a (answer, nth);
ROLLBACK PREPARED 'other';
SELECT * FROM flashsale.audit();
