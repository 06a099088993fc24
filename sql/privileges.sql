-- Privileges: none for any role until grant_app or grant_operator is called, except that pg_monitor reads stats and health().

REVOKE ALL ON SCHEMA flashsale FROM PUBLIC;
REVOKE ALL ON ALL TABLES IN SCHEMA flashsale FROM PUBLIC;
REVOKE ALL ON ALL SEQUENCES IN SCHEMA flashsale FROM PUBLIC;
REVOKE ALL ON ALL FUNCTIONS IN SCHEMA flashsale FROM PUBLIC;

GRANT USAGE ON SCHEMA flashsale TO pg_monitor;
GRANT EXECUTE ON FUNCTION flashsale.read_stats() TO pg_monitor;
GRANT EXECUTE ON FUNCTION flashsale.health() TO pg_monitor;
GRANT SELECT ON flashsale.stats TO pg_monitor;
