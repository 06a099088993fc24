-- A database that the workers do not serve: CREATE EXTENSION says so, and so does a grouped purchase.
\pset tuples_only on
\pset format unaligned
\set served :DBNAME
CREATE DATABASE t_other TEMPLATE template0;
\c t_other
CREATE EXTENSION flashsale;
SELECT flashsale.create_item(10, item_id => 1);
SELECT flashsale.purchase_item(1, 'alice', strategy => 'grouped');
SELECT flashsale.purchase_item(1, 'alice') ->> 'success';
\c :served
DROP DATABASE t_other;
-- In the one that they serve there is nothing to say.
SET flashsale.protect_data = off;
DROP EXTENSION flashsale;
CREATE EXTENSION flashsale;
SELECT flashsale.create_item(10, item_id => 1);
SELECT flashsale.purchase_item(1, 'alice', strategy => 'grouped') ->> 'success';
