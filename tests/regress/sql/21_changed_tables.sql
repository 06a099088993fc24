-- What a shop adds to items and orders has its say in every purchase.
SET flashsale.protect_data = off;
\pset tuples_only on
\pset format unaligned
\pset null (null)
CALL t.reset();
SELECT flashsale.create_item(100, item_id => 1);
CREATE FUNCTION t.buy(user_id text) RETURNS text LANGUAGE sql AS $$
    SELECT t.error(format('SELECT flashsale.purchase_item(1, %L)', user_id)) $$;
SELECT flashsale.purchase_item(1, 'alice') ->> 'remaining_inventory';

-- A trigger on every update of an item, one on a column that a purchase writes, one on another.
CREATE TABLE t.seen (what text, inventory bigint);
CREATE FUNCTION t.see() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO t.seen VALUES (TG_NAME, NEW.inventory);
    RETURN NULL;
END $$;
CREATE TRIGGER any_column AFTER UPDATE ON flashsale.items FOR EACH ROW EXECUTE FUNCTION t.see();
SELECT flashsale.purchase_item(1, 'bob') ->> 'remaining_inventory';
DROP TRIGGER any_column ON flashsale.items;
CREATE TRIGGER inventory_alone AFTER UPDATE OF inventory ON flashsale.items FOR EACH ROW EXECUTE FUNCTION t.see();
SELECT flashsale.purchase_item(1, 'carol') ->> 'remaining_inventory';
DROP TRIGGER inventory_alone ON flashsale.items;
CREATE TRIGGER name_alone AFTER UPDATE OF name ON flashsale.items FOR EACH ROW EXECUTE FUNCTION t.see();
SELECT flashsale.purchase_item(1, 'dave') ->> 'remaining_inventory';
DROP TRIGGER name_alone ON flashsale.items;
SELECT * FROM t.seen;

-- A CHECK of the shop's own, on items and on orders.
ALTER TABLE flashsale.items ADD CONSTRAINT keep_ninety_five CHECK (inventory >= 95);
SELECT flashsale.purchase_item(1, 'erin') ->> 'remaining_inventory';
SELECT t.buy('frank');
ALTER TABLE flashsale.items DROP CONSTRAINT keep_ninety_five;
ALTER TABLE flashsale.orders ADD CONSTRAINT nobody_called_grace CHECK (user_id <> 'grace');
SELECT t.buy('grace');
SELECT flashsale.purchase_item(1, 'heidi') ->> 'remaining_inventory';
ALTER TABLE flashsale.orders DROP CONSTRAINT nobody_called_grace;
-- A column that a reservation leaves empty.
ALTER TABLE flashsale.orders ADD CONSTRAINT priced CHECK (unit_price IS NOT NULL) NOT VALID;
SELECT t.buy('ivan');
ALTER TABLE flashsale.orders DROP CONSTRAINT priced;
BEGIN;
UPDATE flashsale.orders SET unit_price = 0;
ALTER TABLE flashsale.orders ALTER unit_price SET NOT NULL;
COMMIT;
SELECT t.buy('judy');
ALTER TABLE flashsale.orders ALTER unit_price DROP NOT NULL;

-- An index on what a purchase writes finds the row.
CREATE INDEX by_inventory ON flashsale.items (inventory);
SELECT flashsale.purchase_item(1, 'kate') ->> 'remaining_inventory';
SET enable_seqscan = off;
SELECT item_id, inventory, version FROM flashsale.items WHERE inventory = 93;
RESET enable_seqscan;
DROP INDEX flashsale.by_inventory;

-- A purchase within a statement that changes the item sees what that did.
BEGIN;
UPDATE flashsale.items SET unit_price = 5, paused = false WHERE item_id = 1 RETURNING flashsale.purchase_item(1, 'vip') ->> 'unit_price';
WITH changed AS (UPDATE flashsale.items SET max_per_user = 1 WHERE item_id = 1 RETURNING item_id)
SELECT flashsale.purchase_item(item_id, 'vip') ->> 'reason' FROM changed;
UPDATE flashsale.items SET unit_price = 6 WHERE item_id = 1 RETURNING flashsale.purchase_item(1, 'mip', strategy => 'optimistic') ->> 'unit_price';
INSERT INTO flashsale.items (item_id, inventory, stock) VALUES (7, 1, 1) RETURNING flashsale.purchase_item(7, 'vip') ->> 'remaining_inventory';
ROLLBACK;

-- Who calls as an owner without rights is told so.
CREATE ROLE t_owner;
GRANT USAGE ON SCHEMA flashsale TO t_owner;
GRANT ALL ON ALL TABLES IN SCHEMA flashsale TO t_owner;
GRANT ALL ON ALL SEQUENCES IN SCHEMA flashsale TO t_owner;
GRANT EXECUTE ON ALL FUNCTIONS IN SCHEMA flashsale TO t_owner; -- the CHECKs'
GRANT CREATE ON SCHEMA flashsale TO t_owner;
ALTER FUNCTION flashsale.purchase_item(bigint, text, bigint, text, text) OWNER TO t_owner;
BEGIN;
SELECT flashsale.purchase_item(1, 'owen') ->> 'success';
ROLLBACK;
REVOKE UPDATE ON flashsale.items FROM t_owner;
SELECT t.buy('owen');
GRANT UPDATE ON flashsale.items TO t_owner;
REVOKE SELECT ON flashsale.items FROM t_owner;
SELECT t.buy('owen');
GRANT SELECT ON flashsale.items TO t_owner;
REVOKE INSERT ON flashsale.orders FROM t_owner;
SELECT t.buy('owen');
ALTER FUNCTION flashsale.purchase_item(bigint, text, bigint, text, text) OWNER TO CURRENT_USER;
DROP OWNED BY t_owner;
DROP ROLE t_owner;

-- Another primary key, and none.
ALTER TABLE flashsale.items DROP CONSTRAINT items_pkey, ADD PRIMARY KEY (created_at), ADD CONSTRAINT one_id UNIQUE (item_id);
BEGIN;
SELECT flashsale.purchase_item(1, 'nora') ->> 'remaining_inventory';
ROLLBACK;
ALTER TABLE flashsale.items DROP CONSTRAINT one_id, DROP CONSTRAINT items_pkey;
SELECT flashsale.purchase_item(1, 'nina') ->> 'remaining_inventory';
ALTER TABLE flashsale.items ADD PRIMARY KEY (item_id);

-- The table rewritten between two purchases, so that its row lies elsewhere.
SELECT count(flashsale.create_item(1)) FROM generate_series(1, 300);
SELECT flashsale.purchase_item(301, 'olga') ->> 'remaining_inventory';
DELETE FROM flashsale.items WHERE item_id BETWEEN 2 AND 300;
VACUUM (FULL) flashsale.items;
SELECT flashsale.restock_item(301, 1) ->> 'success', flashsale.purchase_item(301, 'pam') ->> 'remaining_inventory';

-- Every kind of an interval counts as SQL has it.
SELECT count(flashsale.create_item(100, item_id => 1000 + nth)) FROM generate_series(1, 7) AS nth;
UPDATE flashsale.items i SET reservation_ttl = ttl::interval
FROM unnest(ARRAY['1 s', '7 days', '1 mon -29 days', '2 mons -59 days -23:59:59', '-1 mon 30 days 90 s', '1 year 3 mons -455 days', '1000000 years -365250000 days 60 s']) WITH ORDINALITY AS wanted (ttl, nth)
WHERE i.item_id = 1000 + nth;
SELECT flashsale.purchase_item(item_id, 'quinn') ->> 'success' FROM flashsale.items WHERE item_id > 1000;
SELECT reservation_ttl, round(extract(epoch FROM expires_at - o.created_at)) = extract(epoch FROM reservation_ttl) AS lasts
FROM flashsale.orders o JOIN flashsale.items i USING (item_id) WHERE user_id = 'quinn' ORDER BY item_id;

-- A child with an item of its own.
CREATE TABLE t.more_items () INHERITS (flashsale.items);
INSERT INTO t.more_items (item_id, inventory, stock) VALUES (8, 2, 2);
BEGIN;
SELECT flashsale.purchase_item(8, 'kid') ->> 'remaining_inventory';
ROLLBACK;
DROP TABLE t.more_items;

-- A shop's BRIN index says of each page which values it has. From 16 on it hinders no HOT update, so it needs an entry
-- even for a row that stays on its page; without the indexes on the columns that a move changes there are such updates.
SELECT flashsale.create_item(100, item_id => 9);
SELECT flashsale.purchase_item(9, 'una') ->> 'success';
BEGIN;
DROP INDEX flashsale.orders_holdings, flashsale.orders_expiry, flashsale.orders_item_expiry, flashsale.orders_payment_deadline;
CREATE INDEX confirmed ON flashsale.orders USING brin (confirmed_at) WITH (pages_per_range = 1);
CREATE INDEX closed ON flashsale.orders USING brin (closed_at) WITH (pages_per_range = 1);
CREATE INDEX expires ON flashsale.orders USING brin (expires_at) WITH (pages_per_range = 1);
SELECT order_id AS una FROM flashsale.orders WHERE user_id = 'una' \gset
SELECT flashsale.begin_payment(:una) ->> 'success', flashsale.confirm_order(:una, 'pay-una') ->> 'success';
SELECT flashsale.purchase_item(9, 'vic') ->> 'success', flashsale.purchase_item(9, 'wyn') ->> 'success';
SELECT flashsale.cancel_order(order_id) ->> 'success' FROM flashsale.orders WHERE user_id = 'vic';
SET LOCAL enable_seqscan = off;
SELECT user_id FROM flashsale.orders WHERE confirmed_at > '2000-01-01' AND item_id = 9;
SELECT user_id FROM flashsale.orders WHERE closed_at > '2000-01-01' AND item_id = 9;
SELECT user_id FROM flashsale.orders WHERE expires_at > '2000-01-01' AND item_id = 9 ORDER BY order_id;
ROLLBACK;
-- On items such an index means that statements sell.
CREATE INDEX stocked ON flashsale.items USING brin (inventory) WITH (pages_per_range = 1);
SELECT flashsale.restock_item(9, 1000) ->> 'success', flashsale.purchase_item(9, 'xia', 7) ->> 'success';
BEGIN;
SET LOCAL enable_seqscan = off;
SELECT inventory FROM flashsale.items WHERE inventory > 1000;
ROLLBACK;
DROP INDEX flashsale.stocked;

-- A column, and its trace in the table when it is gone, so this comes last, and then new tables.
ALTER TABLE flashsale.items ADD COLUMN color text DEFAULT 'red';
SELECT flashsale.purchase_item(1, 'liam') ->> 'remaining_inventory';
SELECT color, inventory FROM flashsale.items WHERE item_id = 1;
ALTER TABLE flashsale.items DROP COLUMN color;
SELECT flashsale.purchase_item(1, 'mia') ->> 'remaining_inventory';

-- Nothing of it is lost: 10 orders of item 1.
SELECT inventory, (SELECT count(*) FROM flashsale.orders WHERE item_id = 1) AS sold FROM flashsale.items WHERE item_id = 1;
SELECT * FROM flashsale.audit();
DROP TABLE t.seen;
DROP FUNCTION t.see(), t.buy(text);
DROP EXTENSION flashsale;
CREATE EXTENSION flashsale;
