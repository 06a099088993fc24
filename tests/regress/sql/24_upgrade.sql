-- ALTER EXTENSION UPDATE makes of the catalog of 0.1.0 what a new installation is, and keeps what the shop granted.
\pset tuples_only on
\pset format unaligned
\set SHOW_CONTEXT never
\set regression :DBNAME
SET client_min_messages = error; -- the extension warns in a database that the workers do not serve
DROP DATABASE IF EXISTS flashsale_upgrade;
DROP ROLE IF EXISTS regress_upgrade_app, regress_upgrade_operator, regress_upgrade_report;
CREATE DATABASE flashsale_upgrade;
\c flashsale_upgrade
SET client_min_messages = error;

-- What the extension owns, and the parts of it: relations have columns, constraints, indexes and triggers.
CREATE VIEW parts AS
WITH extension AS (SELECT oid FROM pg_extension WHERE extname = 'flashsale'),
     member AS (SELECT d.classid, d.objid FROM pg_depend d, extension e
                WHERE d.refclassid = 'pg_extension'::regclass AND d.refobjid = e.oid AND d.deptype = 'e'),
     relation AS (SELECT objid FROM member WHERE classid = 'pg_class'::regclass)
SELECT classid, objid, true AS is_member FROM member
UNION SELECT 'pg_class'::regclass, indexrelid, false FROM pg_index JOIN relation ON objid = indrelid
UNION SELECT 'pg_constraint'::regclass, c.oid, false FROM pg_constraint c JOIN relation ON objid = conrelid
UNION SELECT 'pg_trigger'::regclass, t.oid, false FROM pg_trigger t JOIN relation ON objid = tgrelid
UNION SELECT 'pg_attrdef'::regclass, a.oid, false FROM pg_attrdef a JOIN relation ON objid = adrelid
UNION SELECT 'pg_rewrite'::regclass, r.oid, false FROM pg_rewrite r JOIN relation ON objid = ev_class
UNION SELECT 'pg_policy'::regclass, p.oid, false FROM pg_policy p JOIN relation ON objid = polrelid
UNION SELECT 'pg_type'::regclass, t.oid, false FROM pg_type t JOIN relation ON objid = typrelid;

CREATE FUNCTION sorted(acl aclitem[]) RETURNS text LANGUAGE sql AS $$
    SELECT string_agg(item::text, ' ' ORDER BY item::text COLLATE "C") FROM unnest(acl) AS item
$$;

-- The catalog's rows about these parts, as text without oids.
CREATE FUNCTION catalog() RETURNS TABLE (object text, property text, value text) LANGUAGE sql AS $$
    SELECT 'extension', property, value
    FROM pg_extension, LATERAL (VALUES
        ('owner', extowner::regrole::text), ('schema', extnamespace::regnamespace::text),
        ('relocatable', extrelocatable::text), ('version', extversion)) AS v (property, value)
    WHERE extname = 'flashsale'
UNION ALL
    SELECT 'extension', 'dumps ' || config::regclass, condition
    FROM pg_extension, unnest(extconfig, extcondition) AS v (config, condition) WHERE extname = 'flashsale'
UNION ALL
    SELECT pg_describe_object(classid, objid, 0), 'is a member', is_member::text FROM parts
UNION ALL
    SELECT pg_describe_object(classid, objid, d.objsubid), 'comment', d.description
    FROM parts JOIN pg_description d ON d.classoid = classid AND d.objoid = objid
UNION ALL
    SELECT pg_describe_object(classid, objid, p.objsubid), 'initial privileges', concat_ws(' ', p.privtype, sorted(p.initprivs))
    FROM parts JOIN pg_init_privs p ON p.classoid = classid AND p.objoid = objid
UNION ALL
    SELECT pg_describe_object(d.classid, d.objid, d.objsubid), 'depends on',
           concat_ws(' ', d.deptype, pg_describe_object(d.refclassid, d.refobjid, d.refobjsubid))
    FROM parts p JOIN pg_depend d ON d.classid = p.classid AND d.objid = p.objid
UNION ALL
    SELECT 'schema', nspname, concat_ws(' ', nspowner::regrole, sorted(nspacl))
    FROM parts JOIN pg_namespace n ON classid = 'pg_namespace'::regclass AND n.oid = objid
UNION ALL
    SELECT 'relation', c.oid::regclass::text, concat_ws(' ', relkind, relpersistence, relreplident, relowner::regrole,
           relrowsecurity, relforcerowsecurity, relhasrules, relhastriggers, relnatts, reloptions, sorted(relacl),
           (SELECT amname FROM pg_am a WHERE a.oid = relam), CASE WHEN relkind = 'v' THEN pg_get_viewdef(c.oid) END)
    FROM parts JOIN pg_class c ON classid = 'pg_class'::regclass AND c.oid = objid
UNION ALL
    SELECT 'column', c.oid::regclass || '.' || attname, concat_ws(' ', attnum, format_type(atttypid, atttypmod),
           attnotnull, attstorage, attcompression, attidentity, attgenerated, attisdropped, attcollation::regcollation,
           attstattarget, sorted(attacl), pg_get_expr(adbin, adrelid))
    FROM parts JOIN pg_class c ON classid = 'pg_class'::regclass AND c.oid = objid
    JOIN pg_attribute ON attrelid = c.oid AND attnum > 0
    LEFT JOIN pg_attrdef ON adrelid = c.oid AND adnum = attnum
UNION ALL
    SELECT 'index', x.indexrelid::regclass::text, concat_ws(' ', pg_get_indexdef(x.indexrelid), x.indisprimary,
           x.indisclustered, x.indisvalid, x.indisready, x.indisreplident, x.indimmediate)
    FROM parts JOIN pg_index x ON classid = 'pg_class'::regclass AND x.indexrelid = objid
UNION ALL
    SELECT 'constraint', conrelid::regclass || ' ' || conname, concat_ws(' ', contype, convalidated, conislocal,
           pg_get_constraintdef(c.oid))
    FROM parts JOIN pg_constraint c ON classid = 'pg_constraint'::regclass AND c.oid = objid
UNION ALL
    SELECT 'trigger', tgrelid::regclass || ' ' || tgname, concat_ws(' ', tgenabled, pg_get_triggerdef(t.oid))
    FROM parts JOIN pg_trigger t ON classid = 'pg_trigger'::regclass AND t.oid = objid
UNION ALL
    SELECT 'event trigger', evtname, concat_ws(' ', evtevent, evtenabled, evttags, evtowner::regrole, evtfoid::regprocedure)
    FROM parts JOIN pg_event_trigger e ON classid = 'pg_event_trigger'::regclass AND e.oid = objid
UNION ALL
    SELECT 'sequence', seqrelid::regclass::text,
           concat_ws(' ', seqtypid::regtype, seqstart, seqincrement, seqmin, seqmax, seqcache, seqcycle)
    FROM parts JOIN pg_sequence ON classid = 'pg_class'::regclass AND seqrelid = objid
UNION ALL
    SELECT 'function', p.oid::regprocedure::text,
           concat_ws(' ', proowner::regrole, sorted(proacl), pg_get_functiondef(p.oid))
    FROM parts JOIN pg_proc p ON classid = 'pg_proc'::regclass AND p.oid = objid
UNION ALL
    SELECT 'type', t.oid::regtype::text, concat_ws(' ', typtype, typowner::regrole, sorted(typacl))
    FROM parts JOIN pg_type t ON classid = 'pg_type'::regclass AND t.oid = objid
$$;

CREATE EXTENSION flashsale SCHEMA pg_catalog VERSION '0.1.0'; -- where its control file puts it
-- New objects must not get these.
CREATE ROLE regress_upgrade_report;
ALTER DEFAULT PRIVILEGES GRANT ALL ON FUNCTIONS TO regress_upgrade_report;
ALTER DEFAULT PRIVILEGES GRANT ALL ON TABLES TO regress_upgrade_report;
ALTER EXTENSION flashsale UPDATE TO '0.2.0';
CREATE TABLE updated AS SELECT * FROM catalog();
DROP EXTENSION flashsale;
CREATE EXTENSION flashsale;
CREATE TABLE installed AS SELECT * FROM catalog();
ALTER DEFAULT PRIVILEGES REVOKE ALL ON FUNCTIONS FROM regress_upgrade_report;
ALTER DEFAULT PRIVILEGES REVOKE ALL ON TABLES FROM regress_upgrade_report;
SELECT count(*) > 500 FROM installed;
SELECT 'only after an update', * FROM (TABLE updated EXCEPT ALL TABLE installed) AS different
UNION ALL
SELECT 'only in a new installation', * FROM (TABLE installed EXCEPT ALL TABLE updated) AS different
ORDER BY 2, 3, 1;

-- A shop of 0.1.0 with 100,000 orders in all states, and the grants that grant_app and grant_operator of 0.1.0 made,
-- and one of its own.
DROP EXTENSION flashsale;
CREATE EXTENSION flashsale SCHEMA pg_catalog VERSION '0.1.0';
CREATE ROLE regress_upgrade_app;
CREATE ROLE regress_upgrade_operator;
GRANT USAGE ON SCHEMA flashsale TO regress_upgrade_app, regress_upgrade_operator, regress_upgrade_report;
GRANT EXECUTE ON FUNCTION
    flashsale.confirm_order(bigint, text, bigint, text), flashsale.cancel_order(bigint, text), flashsale.get_order(bigint),
    flashsale.user_orders(text), flashsale.find_payment(text), flashsale.item_availability(bigint)
    TO regress_upgrade_app, regress_upgrade_operator;
GRANT EXECUTE ON FUNCTION
    flashsale.purchase_item(bigint, text, bigint, text, text), flashsale.purchase_item(bigint, bigint, bigint, text, text),
    flashsale.purchase_item(bigint, uuid, bigint, text, text), flashsale.purchase_batch(jsonb),
    flashsale.begin_payment(bigint, interval) TO regress_upgrade_app;
GRANT EXECUTE ON FUNCTION
    flashsale.create_item(bigint, text, bigint, text, integer, timestamptz, timestamptz, interval, bigint),
    flashsale.restock_item(bigint, bigint, text), flashsale.pause_item(bigint), flashsale.resume_item(bigint),
    flashsale.reconcile_stale_reservations(interval, integer), flashsale.refund_order(bigint, boolean),
    flashsale.refund_payment(text, text), flashsale.audit(), flashsale.stats_reset(), flashsale.read_stats(),
    flashsale.item_state(bigint, timestamptz, timestamptz, boolean), flashsale.stock_adds_up(bigint, bigint)
    TO regress_upgrade_operator;
GRANT SELECT ON flashsale.items, flashsale.orders, flashsale.payments, flashsale.stock_movements, flashsale.item_status,
    flashsale.payment_checks, flashsale.refunds_due, flashsale.stats TO regress_upgrade_operator;
GRANT UPDATE (name, unit_price, currency, max_per_user, starts_at, ends_at) ON flashsale.items TO regress_upgrade_operator;
GRANT SELECT (order_id, status) ON flashsale.orders TO regress_upgrade_report WITH GRANT OPTION;

INSERT INTO flashsale.items (inventory, stock, unit_price, currency)
SELECT 100000, 100000, CASE WHEN g > 1 THEN 250 END, CASE WHEN g > 1 THEN 'EUR' END FROM generate_series(1, 20) AS g;
INSERT INTO flashsale.stock_movements (item_id, delta, reason) SELECT item_id, stock, 'created' FROM flashsale.items;
WITH made AS (
    SELECT 1 + g % 20 AS item_id, 1 + g % 3 AS quantity,
           (ARRAY['reserved', 'paying', 'confirmed', 'cancelled', 'expired', 'refunded'])[1 + g / 20 % 6] AS status, g
    FROM generate_series(1, 100000) AS g)
INSERT INTO flashsale.orders (item_id, quantity, units_held, unit_price, currency, created_at, expires_at, paying_at,
    payment_deadline, confirmed_at, closed_at, status, user_id, idempotency_key, closed_by, close_reason)
SELECT item_id, quantity, CASE WHEN status IN ('reserved', 'paying', 'confirmed') THEN quantity ELSE 0 END,
       unit_price, currency, at, at + '1 year', CASE WHEN status <> 'reserved' THEN at END,
       CASE WHEN status <> 'reserved' THEN at END, CASE WHEN status IN ('confirmed', 'refunded') THEN at END,
       CASE WHEN status IN ('cancelled', 'expired', 'refunded') THEN at END, status, 'user ' || g % 5000,
       CASE WHEN g % 2 = 0 THEN 'key ' || g END, CASE WHEN status IN ('cancelled', 'expired', 'refunded') THEN 'somebody' END,
       CASE WHEN status = 'cancelled' THEN 'why not' END
FROM made JOIN flashsale.items USING (item_id), (VALUES (timestamptz '2026-07-01 10:00+00')) AS v (at);
INSERT INTO flashsale.payments (order_id, payment_ref, amount, currency, status, why, due_since, refunded_at, refund_ref)
SELECT order_id, CASE WHEN order_id % 7 > 0 THEN 'pay ' || order_id END, unit_price * quantity, currency, fate,
       CASE WHEN fate <> 'paid' THEN 'order_refunded' END, CASE WHEN fate <> 'paid' THEN closed_at END,
       CASE WHEN fate = 'refunded' THEN closed_at END, CASE WHEN fate = 'refunded' THEN 'refund ' || order_id END
FROM flashsale.orders, LATERAL (SELECT CASE WHEN status = 'confirmed' THEN 'paid' WHEN order_id % 2 = 0 THEN 'due' ELSE 'refunded' END AS fate) AS v
WHERE status IN ('confirmed', 'refunded');
-- A charge for an order that is not there.
INSERT INTO flashsale.payments (order_id, payment_ref, status, why, due_since) VALUES (200000, 'pay lost', 'due', 'order_not_found', now());
UPDATE flashsale.items SET inventory = stock - held
FROM (SELECT item_id AS of, sum(units_held) AS held FROM flashsale.orders GROUP BY item_id) AS v WHERE of = item_id;
SELECT status, count(*) FROM flashsale.orders GROUP BY status ORDER BY status;
SELECT status, count(*) FROM flashsale.payments GROUP BY status ORDER BY status;

-- The rows, the positions of the sequences, and the privileges of all roles but the owner.
CREATE FUNCTION rows() RETURNS TABLE (relation text, id bigint, value jsonb) LANGUAGE sql AS $$
    SELECT 'item', item_id, to_jsonb(i) FROM flashsale.items i
    UNION ALL SELECT 'order', order_id, to_jsonb(o) FROM flashsale.orders o
    UNION ALL SELECT 'payment', payment_id, to_jsonb(p) FROM flashsale.payments p
    UNION ALL SELECT 'movement', movement_id, to_jsonb(m) FROM flashsale.stock_movements m
    UNION ALL SELECT sequencename, 0, to_jsonb(last_value) FROM pg_sequences WHERE schemaname = 'flashsale'
$$;
CREATE FUNCTION grants() RETURNS TABLE (object text, granted text) LANGUAGE sql AS $$
    SELECT v.object, format('%s to %s%s', v.privilege_type, v.grantee::regrole, CASE WHEN v.is_grantable THEN ' with grant option' END)
    FROM (
        SELECT 'function ' || proname AS object, a.* FROM parts JOIN pg_proc p ON classid = 'pg_proc'::regclass AND p.oid = objid, aclexplode(proacl) a
        UNION ALL
        SELECT 'relation ' || relname, a.* FROM parts JOIN pg_class c ON classid = 'pg_class'::regclass AND c.oid = objid, aclexplode(relacl) a
        UNION ALL
        SELECT 'column ' || relname || '.' || attname, a.*
        FROM parts JOIN pg_class c ON classid = 'pg_class'::regclass AND c.oid = objid JOIN pg_attribute ON attrelid = c.oid, aclexplode(attacl) a
        UNION ALL
        SELECT 'schema', a.* FROM pg_namespace, aclexplode(nspacl) a WHERE nspname = 'flashsale') AS v
    WHERE v.grantee <> v.grantor
$$;
CREATE TABLE rows_before AS SELECT * FROM rows();
CREATE TABLE grants_before AS SELECT * FROM grants();

-- Until the update, the library of 0.2.0 refuses.
SELECT flashsale.purchase_item(2, 'alice');
SELECT flashsale.grant_app('regress_upgrade_app');
-- It names what depends on what it replaces.
CREATE TABLE of_orders (order_id bigint, item_id bigint, FOREIGN KEY (order_id, item_id) REFERENCES flashsale.orders);
CREATE VIEW by_order AS SELECT order_id, item_id, status FROM flashsale.orders GROUP BY order_id, item_id;
CREATE FUNCTION restock() RETURNS jsonb LANGUAGE sql BEGIN ATOMIC SELECT flashsale.restock_item(1, 5); END;
CREATE FUNCTION gather() RETURNS jsonb LANGUAGE sql BEGIN ATOMIC SELECT flashsale.purchase_batch('[]'); END;
ALTER EXTENSION flashsale UPDATE TO '0.2.0';
DROP TABLE of_orders;
DROP VIEW by_order;
DROP FUNCTION restock(), gather();

ALTER EXTENSION flashsale UPDATE TO '0.2.0';

SELECT * FROM flashsale.audit();
SELECT relation, count(*) AS kept FROM rows_before b JOIN rows() r USING (relation, id) WHERE r.value @> b.value
GROUP BY relation ORDER BY relation COLLATE "C";
SELECT b.relation, b.id, b.value AS lost FROM rows_before b LEFT JOIN rows() r USING (relation, id)
WHERE NOT coalesce(r.value @> b.value, false) ORDER BY 1, 2 LIMIT 5;
SELECT count(*) FROM grants_before;
TABLE grants_before EXCEPT ALL SELECT * FROM grants() ORDER BY 1, 2;
-- None of these grants counts as the extension's own, which pg_dump would leave out.
SELECT pg_describe_object(classoid, objoid, objsubid), sorted(initprivs) FROM pg_init_privs
WHERE initprivs::text LIKE '%regress%' ORDER BY 1;

-- The shop goes on, in the same session: with a key of 0.1.0, and under each strategy that works in any database.
SET ROLE regress_upgrade_app;
SELECT a ->> 'order_id', a ->> 'replayed' FROM flashsale.purchase_item(3, 'user 2', 3, 'key 2') a;
SELECT flashsale.purchase_item(2, 'alice', strategy => strategy) ->> 'success' FROM unnest('{nowait,optimistic,atomic}'::text[]) AS strategy;
SELECT flashsale.purchase_batch('[{"item_id": 2, "user_id": "alice"}, {"item_id": 3, "user_id": "bob"}]') -> 1 ->> 'success';
SELECT flashsale.purchase_batch('[{"item_id": 2, "user_id": "carol"}]', 'grouped') -> 0 ->> 'success';
SELECT flashsale.begin_payment(order_id) ->> 'status', flashsale.confirm_order(order_id, 'pay new') ->> 'status'
FROM (VALUES (100002)) AS v (order_id);
SET ROLE regress_upgrade_operator;
SELECT flashsale.restock_item(2, 5) ->> 'success', flashsale.refund_order(100002) ->> 'success';
SELECT flashsale.refund_payment('pay lost') ->> 'success';
RESET ROLE;
SELECT * FROM flashsale.audit();

\c :regression
DROP DATABASE flashsale_upgrade;
DROP ROLE regress_upgrade_app, regress_upgrade_operator, regress_upgrade_report;
