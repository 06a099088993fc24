-- The schema flashsale may be made before; nobody else may own it; and it does not matter where CREATE EXTENSION puts the extension.
\pset tuples_only on
\pset format unaligned
\set SHOW_CONTEXT never
\set regression :DBNAME
SET client_min_messages = error; -- the extension warns in a database that the workers do not serve
DROP DATABASE IF EXISTS flashsale_schema;
DROP DATABASE IF EXISTS flashsale_latin;
DROP ROLE IF EXISTS regress_squatter, regress_superuser, regress_demoted;
CREATE ROLE regress_squatter;
CREATE ROLE regress_superuser SUPERUSER;
CREATE ROLE regress_demoted SUPERUSER;
CREATE DATABASE flashsale_schema;
\c flashsale_schema
SET client_min_messages = error;
CREATE FUNCTION placed() RETURNS text LANGUAGE sql AS $$
    SELECT format('extension in %s, schema %s', extnamespace::regnamespace,
                  CASE WHEN EXISTS (SELECT FROM pg_depend WHERE classid = 'pg_namespace'::regclass
                                    AND objid = to_regnamespace('flashsale') AND refobjid = e.oid) THEN 'its own' ELSE 'made before' END)
    FROM pg_extension e WHERE extname = 'flashsale'
$$;
CREATE PROCEDURE try() LANGUAGE plpgsql AS $$
BEGIN
    PERFORM flashsale.create_item(1, item_id => 1);
    IF NOT (flashsale.purchase_item(1, 'alice') ->> 'success')::boolean THEN RAISE EXCEPTION 'not sold'; END IF;
    TRUNCATE flashsale.orders, flashsale.stock_movements;
    TRUNCATE flashsale.items;
END $$;

-- By itself, and as a dump of 0.1 has it.
CREATE EXTENSION flashsale;
SELECT placed();
CALL try();
DROP EXTENSION flashsale;
SELECT to_regnamespace('flashsale') IS NULL;
CREATE EXTENSION IF NOT EXISTS flashsale WITH SCHEMA pg_catalog;
SELECT placed();
CALL try();
DROP EXTENSION flashsale;

-- Into a schema in which somebody has left traps; it may be dropped later.
CREATE SCHEMA traps;
CREATE FUNCTION traps.nextval(text) RETURNS bigint LANGUAGE sql AS 'SELECT 1/0::bigint';
CREATE FUNCTION traps.clock_timestamp() RETURNS timestamptz LANGUAGE sql AS 'SELECT (1/0)::text::timestamptz';
CREATE EXTENSION flashsale SCHEMA traps;
SELECT placed();
DROP SCHEMA traps CASCADE;
CALL try();
DROP EXTENSION flashsale;

-- The schema must be there for PostgreSQL to accept it.
CREATE EXTENSION flashsale SCHEMA flashsale;
CREATE SCHEMA flashsale;
CREATE EXTENSION flashsale SCHEMA flashsale;
SELECT placed();
CALL try();
DROP EXTENSION flashsale;
SELECT to_regnamespace('flashsale');
-- Also if it is not named, and if a superuser made it.
CREATE EXTENSION flashsale;
SELECT placed();
CALL try();
DROP EXTENSION flashsale;
ALTER SCHEMA flashsale OWNER TO regress_superuser;
CREATE EXTENSION flashsale SCHEMA flashsale;
CALL try();
DROP EXTENSION flashsale;
-- Then the functions work also when their owner is no superuser any more.
SET ROLE regress_demoted;
CREATE EXTENSION flashsale;
RESET ROLE;
ALTER ROLE regress_demoted NOSUPERUSER;
CALL try();
DROP EXTENSION flashsale;
REVOKE ALL ON SCHEMA flashsale FROM regress_demoted;

-- Others have the privileges in it that they had, and what is the shop's stays so, also in a dump.
CREATE FUNCTION flashsale.of_the_shop() RETURNS int LANGUAGE sql AS 'SELECT 1';
CREATE TABLE flashsale.of_the_shop AS SELECT 1 AS one;
GRANT SELECT ON flashsale.of_the_shop TO PUBLIC;
GRANT USAGE ON SCHEMA flashsale TO regress_squatter;
CREATE EXTENSION flashsale;
SELECT has_function_privilege('regress_squatter', 'flashsale.of_the_shop()', 'EXECUTE'),
       has_table_privilege('regress_squatter', 'flashsale.of_the_shop', 'SELECT'),
       has_schema_privilege('regress_squatter', 'flashsale', 'USAGE'),
       has_function_privilege('regress_squatter', 'flashsale.get_order(bigint)', 'EXECUTE');
SELECT count(*) FROM pg_init_privs WHERE objoid IN ('flashsale'::regnamespace, 'flashsale.of_the_shop'::regclass, 'flashsale.of_the_shop()'::regprocedure);
DROP EXTENSION flashsale;
DROP TABLE flashsale.of_the_shop;
DROP FUNCTION flashsale.of_the_shop();
REVOKE ALL ON SCHEMA flashsale FROM regress_squatter;

-- Somebody else may create objects in it.
GRANT CREATE ON SCHEMA flashsale TO regress_squatter, PUBLIC;
CREATE EXTENSION flashsale;
REVOKE ALL ON SCHEMA flashsale FROM regress_squatter, PUBLIC;
-- Or has created some.
CREATE FUNCTION flashsale.create_item(int) RETURNS int LANGUAGE sql AS 'SELECT 1';
ALTER FUNCTION flashsale.create_item(int) OWNER TO regress_squatter;
CREATE EXTENSION flashsale;
DROP FUNCTION flashsale.create_item(int);

-- Default privileges give nobody anything of the extension's.
ALTER DEFAULT PRIVILEGES GRANT ALL ON TABLES TO regress_squatter;
ALTER DEFAULT PRIVILEGES GRANT ALL ON SEQUENCES TO regress_squatter;
ALTER DEFAULT PRIVILEGES GRANT ALL ON FUNCTIONS TO regress_squatter;
CREATE EXTENSION flashsale;
SELECT has_function_privilege('regress_squatter', 'flashsale.get_order(bigint)', 'EXECUTE'),
       has_table_privilege('regress_squatter', 'flashsale.items', 'SELECT, UPDATE'),
       has_sequence_privilege('regress_squatter', 'flashsale.orders_order_id_seq', 'USAGE');
DROP EXTENSION flashsale;
ALTER DEFAULT PRIVILEGES REVOKE ALL ON TABLES FROM regress_squatter;
ALTER DEFAULT PRIVILEGES REVOKE ALL ON SEQUENCES FROM regress_squatter;
ALTER DEFAULT PRIVILEGES REVOKE ALL ON FUNCTIONS FROM regress_squatter;

-- Somebody else's.
ALTER SCHEMA flashsale OWNER TO regress_squatter;
CREATE EXTENSION flashsale SCHEMA flashsale;
CREATE EXTENSION flashsale;
CREATE EXTENSION flashsale SCHEMA pg_catalog;
SELECT extname FROM pg_extension WHERE extname = 'flashsale';

-- A database with another encoding than UTF8.
CREATE DATABASE flashsale_latin TEMPLATE template0 ENCODING 'LATIN1' LOCALE 'C';
\c flashsale_latin
CREATE EXTENSION flashsale;
\c :regression
DROP DATABASE flashsale_latin;
DROP DATABASE flashsale_schema;
DROP ROLE regress_squatter, regress_superuser, regress_demoted;
