-- Privileges: none for any role until grant_app or grant_operator is called, except that pg_monitor reads stats and health().

-- Not ALL ... IN SCHEMA: a schema that was made before may contain objects of the shop.
DO $$
DECLARE
    own record;
BEGIN
    FOR own IN
        SELECT CASE o.type WHEN 'view' THEN 'table' ELSE o.type END AS kind, o.identity
        FROM pg_catalog.pg_extension e
        JOIN pg_catalog.pg_depend d ON d.refclassid = 'pg_catalog.pg_extension'::regclass AND d.refobjid = e.oid AND d.deptype = 'e'
        CROSS JOIN LATERAL pg_catalog.pg_identify_object(d.classid, d.objid, d.objsubid) o
        WHERE e.extname = 'flashsale' AND o.type IN ('schema', 'table', 'view', 'sequence', 'function', 'procedure')
    LOOP
        EXECUTE pg_catalog.format('REVOKE ALL ON %s %s FROM PUBLIC', own.kind, own.identity);
    END LOOP;
END $$;

GRANT USAGE ON SCHEMA flashsale TO pg_monitor;
-- With the GRANT, PostgreSQL notes all privileges on the schema as the extension's own, and pg_dump leaves
-- those out. A schema that was made before is not the extension's, so the note is removed.
DO $$
BEGIN
    DELETE FROM pg_catalog.pg_init_privs i
    WHERE i.classoid = 'pg_catalog.pg_namespace'::regclass AND i.objoid = 'flashsale'::regnamespace
      AND NOT EXISTS (SELECT FROM pg_catalog.pg_depend d WHERE d.classid = i.classoid AND d.objid = i.objoid AND d.deptype = 'e');
    IF FOUND THEN
        DELETE FROM pg_catalog.pg_shdepend -- of the note, from 17 on
        WHERE classid = 'pg_catalog.pg_namespace'::regclass AND objid = 'flashsale'::regnamespace AND deptype = 'i'
          AND dbid = (SELECT oid FROM pg_catalog.pg_database WHERE datname = pg_catalog.current_database());
    END IF;
END $$;
GRANT EXECUTE ON FUNCTION flashsale.read_stats() TO pg_monitor;
GRANT EXECUTE ON FUNCTION flashsale.health() TO pg_monitor;
GRANT SELECT ON flashsale.stats TO pg_monitor;
