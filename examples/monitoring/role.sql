-- Creates the role of the exporter and of audit-metrics. Run it once, as the owner of the extension, in its database:
--   psql -d shop -f role.sql
-- Debian's exporter runs as the system user prometheus, whom PostgreSQL lets in over the socket as the role of
-- that name, without a password. The role can change nothing, and of the tables it reads nothing but the columns
-- below and what audit() finds. As a member of pg_monitor it also sees the statements that run.
CREATE ROLE prometheus LOGIN CONNECTION LIMIT 5;
GRANT pg_monitor TO prometheus; -- the server's statistics, the view stats and health()
GRANT SELECT (item_id, name, state, stock, inventory, reserved, paying, confirmed, cancelled, expired, refunded,
              starts_at, ends_at) ON flashsale.item_status TO prometheus;
GRANT EXECUTE ON FUNCTION flashsale.item_state(bigint, timestamptz, timestamptz, boolean) TO prometheus;
GRANT SELECT (amount, currency, due_since, why) ON flashsale.refunds_due TO prometheus;
GRANT SELECT (payment_deadline) ON flashsale.payment_checks TO prometheus;
GRANT EXECUTE ON FUNCTION flashsale.audit() TO prometheus; -- for audit-metrics only
