-- What needs a person: one row for each problem. Reads catalogs, statistics views and the ends of indexes, no table whole.
-- One function for each kind of problem, which only health() calls.

CREATE FUNCTION flashsale.health_of_library(OUT severity text, OUT problem text, OUT detail text, OUT hint text) RETURNS SETOF record
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    -- A session looks for the library's file once, and for the control file each time; a removal deletes both.
    PERFORM flashsale.stock_adds_up(0::bigint, 0::bigint);
    PERFORM FROM pg_extension_update_paths('flashsale');
EXCEPTION WHEN OTHERS THEN
    RETURN QUERY SELECT 'error', 'library_missing', 'files of flashsale are missing or do not fit: ' || SQLERRM,
        'Install the package again, in the version of the extension, before the server is restarted: it does not start without a library that it preloads.';
END $$;
COMMENT ON FUNCTION flashsale.health_of_library() IS 'Part of health(): whether the library is there.';

CREATE FUNCTION flashsale.health_of_version(OUT severity text, OUT problem text, OUT detail text, OUT hint text) RETURNS SETOF record
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    advice text;
BEGIN
    BEGIN
        -- It compares versions before it looks at its argument.
        PERFORM flashsale.get_order(NULL::bigint);
    EXCEPTION WHEN null_value_not_allowed THEN
        NULL;
    WHEN object_not_in_prerequisite_state THEN
        GET STACKED DIAGNOSTICS advice = PG_EXCEPTION_HINT;
        RETURN QUERY SELECT 'error', 'other_version', 'every call fails: ' || SQLERRM, advice;
        RETURN;
    END;
    RETURN QUERY SELECT CASE WHEN l.is_preloaded THEN 'warning' ELSE 'error' END, 'other_version',
        format('the extension in this database has version %s, the installed files %s; %s', x.installed_version, x.default_version,
               CASE WHEN l.is_preloaded THEN 'until a restart the server goes on with the library that it has loaded' ELSE 'calls in new sessions fail' END),
        CASE WHEN p.path IS NULL THEN format('Install the package of version %s again, before the server is restarted.', x.installed_version)
             WHEN l.is_preloaded THEN 'Restart the server, and at once call ALTER EXTENSION flashsale UPDATE, in each database that has the extension: between the two every call fails.'
             ELSE 'Call ALTER EXTENSION flashsale UPDATE in a new session.' END
    FROM pg_available_extensions x
    LEFT JOIN pg_extension_update_paths('flashsale') p ON p.source = x.installed_version AND p.target = x.default_version
    CROSS JOIN (SELECT EXISTS (SELECT FROM pg_settings s WHERE s.name = 'flashsale.database' AND s.context = 'postmaster')) AS l (is_preloaded)
    WHERE x.name = 'flashsale' AND x.installed_version <> x.default_version;
END $$;
COMMENT ON FUNCTION flashsale.health_of_version() IS 'Part of health(): whether library, files and database have the same version.';

CREATE FUNCTION flashsale.health_of_service(OUT severity text, OUT problem text, OUT detail text, OUT hint text) RETURNS SETOF record
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    -- The name in flashsale.database, if the library is preloaded.
    served text;
    is_pending boolean;
    -- Somebody has strategy grouped, which fails without workers.
    is_grouped boolean;
    failing text;
    remedy text;
BEGIN
    SELECT max(s.setting) FILTER (WHERE s.name = 'flashsale.database' AND s.context = 'postmaster'),
           bool_or(s.name IN ('shared_preload_libraries', 'flashsale.database') AND s.pending_restart),
           bool_or(s.name = 'flashsale.strategy' AND s.reset_val = 'grouped')
               OR EXISTS (SELECT FROM pg_db_role_setting r LEFT JOIN pg_database d ON d.oid = r.setdatabase, unnest(r.setconfig) AS c (setting)
                          WHERE lower(c.setting) = 'flashsale.strategy=grouped' AND (r.setdatabase = 0 OR d.datname = current_database()))
    INTO served, is_pending, is_grouped
    FROM pg_settings s;
    failing := CASE WHEN is_grouped THEN ', and purchases fail for all who have flashsale.strategy = grouped' ELSE '' END;
    remedy := CASE WHEN is_pending THEN 'Restart the server, whose configuration has been changed; if this row stays, preload flashsale and set flashsale.database to this database'
                   WHEN served IS NULL THEN 'Preload it and restart the server'
                   ELSE 'Set flashsale.database to this database and restart the server' END
        || ', or call flashsale.reconcile_stale_reservations() every few seconds'
        || CASE WHEN is_grouped THEN ' and set flashsale.strategy to another one' ELSE '' END || '.';
    IF served IS NULL THEN
        RETURN QUERY SELECT CASE WHEN is_grouped THEN 'error' ELSE 'warning' END, 'not_preloaded',
            'flashsale is not in shared_preload_libraries: there are no workers' || failing, remedy;
    ELSIF served <> current_database() THEN
        RETURN QUERY SELECT CASE WHEN is_grouped THEN 'error' ELSE 'warning' END, 'other_database',
            CASE WHEN EXISTS (SELECT FROM pg_database d WHERE d.datname = served) THEN format('the workers serve database %I', served)
                 ELSE format('flashsale.database is %I, which does not exist, so the workers serve none', served) END || failing, remedy;
    ELSIF EXISTS (SELECT FROM pg_subscription_rel r JOIN pg_class c ON c.oid = r.srrelid
                  WHERE c.relnamespace = 'flashsale'::regnamespace) THEN
        RETURN QUERY SELECT 'warning', 'copy_of_subscription', 'a subscription writes the tables, so the workers leave them alone',
            'To sell here, drop the subscription and set the sequences past the ids in the tables.';
    END IF;
END $$;
COMMENT ON FUNCTION flashsale.health_of_service() IS 'Part of health(): whether workers serve this database.';

CREATE FUNCTION flashsale.health_of_workers(OUT severity text, OUT problem text, OUT detail text, OUT hint text) RETURNS SETOF record
LANGUAGE sql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
    SELECT 'error', 'worker_missing', format('there is no flashsale %s', w.worker),
        'If it does not come within seconds, raise max_worker_processes and restart the server, and see the server''s log.'
    FROM unnest(ARRAY['launcher', 'seller', 'publisher', 'reconciler']) AS w (worker)
    WHERE NOT pg_is_in_recovery() AND pg_has_role('pg_read_all_stats', 'USAGE')
      AND NOT EXISTS (SELECT FROM pg_stat_activity a WHERE a.backend_type = 'flashsale ' || w.worker)
UNION ALL
    SELECT 'warning', 'queue_full', format('%s calls wait for the seller', s.value),
        'The seller does not keep up: look for slow triggers on flashsale.orders, and for locked items; flashsale.queue_size bounds the queue.'
    FROM flashsale.read_stats() s
    WHERE s.subject = 'seller' AND s.name = 'waiting' AND s.value >= 0.75 * current_setting('flashsale.queue_size')::int
UNION ALL
    SELECT 'error', 'seller_slow', format('a call has waited for the seller for %s s', round(s.value::numeric, 1)),
        format('Its callers get busy. See what process %s (flashsale seller) does, in pg_stat_activity and whether it is stopped; look for slow triggers on flashsale.orders.',
               (SELECT a.pid FROM pg_stat_activity a WHERE a.backend_type = 'flashsale seller'))
    FROM flashsale.read_stats() s
    WHERE s.subject = 'seller' AND s.name = 'oldest_wait_seconds'
      AND s.value > 0.5 * extract(epoch FROM current_setting('flashsale.group_wait')::interval)
$$;
COMMENT ON FUNCTION flashsale.health_of_workers() IS 'Part of health(): the workers that serve this database.';

CREATE FUNCTION flashsale.health_of_work(OUT severity text, OUT problem text, OUT detail text, OUT hint text) RETURNS SETOF record
LANGUAGE sql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
    SELECT 'error', 'stale_reservations',
        format('%s orders are reserved though they have expired, the oldest since %s', CASE WHEN count(*) > 1000 THEN 'more than 1000' ELSE count(*)::text END, min(o.expires_at)),
        'Nobody expires them: call flashsale.reconcile_stale_reservations() every few seconds, or see why the reconciler does not; the server''s log says so.'
    FROM (SELECT i.expires_at FROM flashsale.orders i
          WHERE i.status = 'reserved'
            AND i.expires_at < clock_timestamp() - interval '1 minute' - coalesce(current_setting('flashsale.reconcile_interval', true), '10s')::interval
            AND NOT EXISTS (SELECT FROM pg_subscription_rel r JOIN pg_class c ON c.oid = r.srrelid
                            WHERE c.relnamespace = 'flashsale'::regnamespace)
          ORDER BY i.expires_at LIMIT 1001) o
    HAVING count(*) > 0
UNION ALL
    SELECT 'warning', 'payment_checks_overdue',
        format('%s orders have been in paying for more than 10 minutes after their deadline, the oldest since %s', CASE WHEN count(*) > 1000 THEN 'more than 1000' ELSE count(*)::text END, min(o.payment_deadline)),
        'For each row of flashsale.payment_checks ask the gateway, then call confirm_order or cancel_order.'
    FROM (SELECT i.payment_deadline FROM flashsale.orders i
          WHERE i.status = 'paying' AND i.payment_deadline < clock_timestamp() - interval '10 minutes'
          ORDER BY i.payment_deadline LIMIT 1001) o
    HAVING count(*) > 0
UNION ALL
    SELECT 'warning', 'refunds_overdue',
        format('%s charges have been due for refund for more than an hour, the oldest since %s', CASE WHEN count(*) > 1000 THEN 'more than 1000' ELSE count(*)::text END, min(p.due_since)),
        'Refund each row of flashsale.refunds_due at the gateway, then call refund_payment.'
    FROM (SELECT i.due_since FROM flashsale.payments i
          WHERE i.status = 'due' AND i.due_since < clock_timestamp() - interval '1 hour'
          ORDER BY i.due_since LIMIT 1001) p
    HAVING count(*) > 0
$$;
COMMENT ON FUNCTION flashsale.health_of_work() IS 'Part of health(): work that nobody does.';

CREATE FUNCTION flashsale.health_of_sessions(moment timestamptz, OUT severity text, OUT problem text, OUT detail text, OUT hint text) RETURNS SETOF record
LANGUAGE sql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
    -- A foreign key locks an item FOR KEY SHARE, which blocks no sale; its transaction has also written the table that refers to items.
    SELECT DISTINCT 'error', 'items_locked',
        format('process %s (%s) has locked or changed items, in a transaction since %s', a.pid, a.state, a.xact_start),
        format('Its items are not sold meanwhile. Let it commit, or end it: SELECT pg_terminate_backend(%s).', a.pid)
    FROM pg_locks l JOIN pg_stat_activity a USING (pid)
    WHERE l.relation = 'flashsale.items'::regclass AND l.database = (SELECT d.oid FROM pg_database d WHERE d.datname = current_database())
      AND l.granted AND l.mode NOT IN ('AccessShareLock', 'ShareUpdateExclusiveLock')
      AND NOT (l.mode = 'RowShareLock' AND EXISTS (
          SELECT FROM pg_locks w JOIN pg_constraint k ON k.conrelid = w.relation
          WHERE w.pid = l.pid AND w.database = l.database AND w.granted AND w.mode = 'RowExclusiveLock'
            AND k.contype = 'f' AND k.confrelid = l.relation))
      AND a.pid <> pg_backend_pid() AND a.xact_start < moment - interval '5 seconds'
UNION ALL
    -- A snapshot is in the way if many transactions have ended since. The xmin of VACUUM is not.
    SELECT 'warning', 'old_snapshot',
        format('%s keeps row versions from being removed, for %s transactions by now', h.holder, h.age),
        'Each sale leaves a version of its item''s row. ' || h.hint
    FROM (SELECT format('the snapshot of process %s (%s, %s), in a transaction since %s,', a.pid, coalesce(a.usename, a.backend_type), a.state, a.xact_start),
                 age(a.backend_xmin), 'End it, or run it on a standby without hot_standby_feedback.'
          FROM pg_stat_activity a
          WHERE a.datname = current_database() AND a.pid <> pg_backend_pid()
            AND age(a.backend_xmin) > 1000 AND a.xact_start < moment - interval '1 minute'
            AND NOT EXISTS (SELECT FROM pg_stat_progress_vacuum v WHERE v.pid = a.pid)
          UNION ALL
          SELECT format('standby %s (process %s)', r.application_name, r.pid), age(r.backend_xmin),
                 'End long queries on the standby, or set hot_standby_feedback to off there.'
          FROM pg_stat_replication r WHERE age(r.backend_xmin) > 100000
          UNION ALL
          SELECT format('replication slot %s (%s)', s.slot_name, CASE WHEN s.active THEN 'active' ELSE 'inactive' END),
                 greatest(age(s.xmin), age(s.catalog_xmin)),
                 format('Let its standby or subscriber go on, or drop it: SELECT pg_drop_replication_slot(%L).', s.slot_name)
          FROM pg_replication_slots s
          WHERE greatest(age(s.xmin), age(s.catalog_xmin)) > CASE WHEN s.active THEN 100000 ELSE 1000 END) AS h (holder, age, hint)
UNION ALL
    SELECT 'warning', 'idle_in_transaction', format('process %s (%s) is idle in a transaction for more than a minute, since %s', a.pid, a.usename, a.state_change),
        'It may hold locks, and keeps row versions from being removed. Set idle_in_transaction_session_timeout.'
    FROM pg_stat_activity a
    WHERE a.state LIKE 'idle in transaction%' AND a.datname = current_database() AND a.state_change < moment - interval '1 minute'
UNION ALL
    SELECT 'warning', 'prepared_transaction', format('transaction %L is prepared since %s', x.gid, x.prepared),
        'It holds its locks until COMMIT PREPARED or ROLLBACK PREPARED.'
    FROM pg_prepared_xacts x WHERE x.database = current_database() AND x.prepared < moment - interval '1 minute'
$$;
COMMENT ON FUNCTION flashsale.health_of_sessions(timestamptz) IS 'Part of health(): sessions and standbys in the way of others, as of a moment.';

CREATE FUNCTION flashsale.health_of_commits(OUT severity text, OUT problem text, OUT detail text, OUT hint text) RETURNS SETOF record
LANGUAGE sql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
    SELECT s.severity, s.setting || '_off', s.detail, 'Set ' || s.setting || ' to on.'
    FROM (VALUES ('error', 'fsync', 'a crash of the machine can lose or corrupt everything'),
                 ('error', 'full_page_writes', 'a crash of the machine can corrupt tables'),
                 ('warning', 'synchronous_commit', 'a crash can lose the orders and payments of the last moments, though their calls succeeded')) AS s (severity, setting, detail)
    JOIN pg_settings g ON g.name = s.setting
    WHERE g.reset_val = 'off'
UNION ALL
    SELECT 'warning', 'synchronous_commit_off',
        format('role %I has %s, so a crash or failover can lose orders and payments of calls that succeeded', r.rolname, c.setting),
        format('ALTER ROLE %I %sRESET synchronous_commit', r.rolname, 'IN DATABASE ' || quote_ident(d.datname) || ' ')
    FROM pg_db_role_setting s
    JOIN pg_roles r ON r.oid = s.setrole
    LEFT JOIN pg_database d ON d.oid = s.setdatabase
    CROSS JOIN LATERAL unnest(s.setconfig) AS c (setting)
    WHERE (s.setdatabase = 0 OR d.datname = current_database())
      AND lower(c.setting) ~ ('^synchronous_commit=(off|false|no|0' || CASE current_setting('synchronous_standby_names') WHEN '' THEN '' ELSE '|local' END || ')$')
UNION ALL
    SELECT 'warning', 'not_synchronous', 'synchronous_standby_names is set, but synchronous_commit = ' || g.reset_val || ' waits for no standby',
        'A failover can lose orders. Set synchronous_commit to on.'
    FROM pg_settings g
    WHERE g.name = 'synchronous_commit' AND g.reset_val IN ('off', 'local')
      AND current_setting('synchronous_standby_names') <> '' AND NOT pg_is_in_recovery()
UNION ALL
    SELECT 'error', 'standby_missing', format('%s synchronous standbys are connected, but a commit waits for %s, so none returns', n.connected, n.required),
        'Bring the standbys back, or change synchronous_standby_names.'
    FROM (SELECT coalesce(substring(lower(current_setting('synchronous_standby_names'))
                                    FROM '^[[:space:]]*(?:any|first)?[[:space:]]*([0-9]+)[[:space:]]*[(]'), '1')::int AS required,
                 (SELECT count(*) FROM pg_stat_replication r WHERE r.sync_state IN ('sync', 'quorum')) AS connected) n
    JOIN pg_settings g ON g.name = 'synchronous_commit' AND g.reset_val NOT IN ('off', 'local')
    WHERE n.connected < n.required AND current_setting('synchronous_standby_names') <> '' AND NOT pg_is_in_recovery()
$$;
COMMENT ON FUNCTION flashsale.health_of_commits() IS 'Part of health(): commits that can be lost, or do not return.';

CREATE FUNCTION flashsale.id_sequences(OUT relation regclass, OUT id name, OUT sequence regclass) RETURNS SETOF record
LANGUAGE sql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
    SELECT t.oid, i.attname, s.oid
    FROM unnest(ARRAY['flashsale.items'::regclass, 'flashsale.orders', 'flashsale.payments', 'flashsale.stock_movements']) AS t (oid)
    JOIN pg_attribute i ON i.attrelid = t.oid AND i.attnum = 1
    JOIN pg_attrdef a ON a.adrelid = t.oid AND a.adnum = 1
    JOIN pg_depend d ON d.classid = 'pg_attrdef'::regclass AND d.objid = a.oid AND d.refclassid = 'pg_class'::regclass
    JOIN pg_class s ON s.oid = d.refobjid AND s.relkind = 'S'
$$;
COMMENT ON FUNCTION flashsale.id_sequences() IS 'Part of health(): the sequence of each table''s ids, whatever its name is by now.';

CREATE FUNCTION flashsale.health_of_ids(OUT severity text, OUT problem text, OUT detail text, OUT hint text) RETURNS SETOF record
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    ids record;
    here record;
    newest bigint;
    reached bigint;
BEGIN
    -- An id is the number of its sequence, times nodes, plus node.
    SELECT coalesce(max(n.node), 0) AS node, coalesce(max(n.nodes), 1) AS nodes INTO here FROM flashsale.node n;
    -- Ids stay below 2^53, whatever the sequence allows.
    FOR ids IN SELECT s.relation, s.id, s.sequence, q.seqincrement AS step, q.seqmax AS most,
                      CASE WHEN q.seqincrement > 0 THEN greatest(q.seqmin, 1) ELSE least(q.seqmax, l.number) END AS first,
                      CASE WHEN q.seqincrement > 0 THEN least(q.seqmax, l.number) ELSE greatest(q.seqmin, 1) END AS last
               FROM flashsale.id_sequences() s JOIN pg_sequence q ON q.seqrelid = s.sequence,
                    (VALUES ((9007199254740991 - here.node) / here.nodes)) AS l (number)
    LOOP
        EXECUTE format('SELECT s.last_value - CASE WHEN s.is_called THEN 0 ELSE %s END FROM %s s', ids.step, ids.sequence) INTO reached;
        -- Rows of other nodes may have been moved here.
        EXECUTE format('SELECT max(t.%1$I) FROM %2$s t WHERE t.%1$I %% %3$s = %4$s', ids.id, ids.relation, here.nodes, here.node) INTO newest;
        -- Ids of items may be chosen.
        IF reached * here.nodes + here.node < newest AND ids.step > 0 AND ids.relation <> 'flashsale.items'::regclass THEN
            RETURN QUERY SELECT 'error', 'sequence_behind',
                format('%s is at %s, but its table at %s', ids.sequence, reached * here.nodes + here.node, newest),
                format('SELECT setval(%L, %s)', ids.sequence, reached + ((newest - here.node) / here.nodes - reached + ids.step - 1) / ids.step * ids.step);
        END IF;
        IF sign(ids.step) * (reached::numeric - ids.first) > 0.9 * abs(ids.last - ids.first) THEN
            RETURN QUERY SELECT 'warning', 'sequence_near_its_end', format('%s is at %s of %s', ids.sequence, reached, ids.last),
                CASE WHEN ids.step > 0 AND ids.most < 9007199254740991 THEN format('ALTER SEQUENCE %s MAXVALUE 9007199254740991', ids.sequence)
                ELSE 'After that nothing can be inserted: find out who has set it that far.' END;
        END IF;
    END LOOP;
END $$;
COMMENT ON FUNCTION flashsale.health_of_ids() IS 'Part of health(): the sequences of ids.';

CREATE FUNCTION flashsale.definitions(OUT relation text, OUT kind text, OUT name text) RETURNS SETOF record
LANGUAGE sql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
    SELECT o.relation::regclass::text, o.kind, o.name
    FROM unnest(ARRAY['flashsale.items'::regclass, 'flashsale.orders', 'flashsale.payments', 'flashsale.stock_movements', 'flashsale.node']) AS t (oid),
    LATERAL (
        SELECT t.oid, 'trigger', g.tgname::text FROM pg_trigger g WHERE g.tgrelid = t.oid AND NOT g.tgisinternal
        UNION ALL SELECT t.oid, 'index', i.relname FROM pg_index x JOIN pg_class i ON i.oid = x.indexrelid WHERE x.indrelid = t.oid AND x.indisvalid
        UNION ALL SELECT t.oid, 'constraint', k.conname FROM pg_constraint k WHERE k.conrelid = t.oid AND k.contype IN ('c', 'f')
        UNION ALL SELECT t.oid, 'column', a.attname FROM pg_attribute a WHERE a.attrelid = t.oid AND a.attnum > 0 AND NOT a.attisdropped
        UNION ALL SELECT t.oid, 'NOT NULL of column', a.attname FROM pg_attribute a
            WHERE a.attrelid = t.oid AND a.attnum > 0 AND NOT a.attisdropped AND a.attnotnull
        UNION ALL SELECT t.oid, 'statistics target of column', a.attname FROM pg_attribute a WHERE a.attrelid = t.oid AND a.attstattarget >= 0 AND a.attnum > 0 AND NOT a.attisdropped
        UNION ALL SELECT t.oid, 'default of column', format('%s, %s,', a.attname, pg_get_expr(d.adbin, d.adrelid))
            FROM pg_attribute a JOIN pg_attrdef d ON d.adrelid = a.attrelid AND d.adnum = a.attnum
            WHERE a.attrelid = t.oid AND NOT EXISTS (SELECT FROM flashsale.id_sequences() s WHERE s.relation = t.oid AND s.id = a.attname)
        UNION ALL SELECT t.oid, 'policy', p.polname FROM pg_policy p WHERE p.polrelid = t.oid
        UNION ALL SELECT t.oid, 'row level security', NULL FROM pg_class c WHERE c.oid = t.oid AND (c.relrowsecurity OR c.relforcerowsecurity)
        UNION ALL SELECT t.oid, 'replica identity', NULL FROM pg_class c WHERE c.oid = t.oid AND c.relreplident <> 'd'
        UNION ALL SELECT t.oid, 'storage parameter', p.option FROM pg_class c, unnest(c.reloptions) AS p (option) WHERE c.oid = t.oid
        UNION ALL SELECT t.oid, 'extended statistics', e.stxname FROM pg_statistic_ext e WHERE e.stxrelid = t.oid
        UNION ALL SELECT t.oid, 'rule', r.rulename FROM pg_rewrite r WHERE r.ev_class = t.oid
        UNION ALL SELECT t.oid, 'parent', h.inhparent::regclass::text FROM pg_inherits h WHERE h.inhrelid = t.oid
        UNION ALL SELECT t.oid, 'membership in publication', b.pubname FROM pg_publication_rel r JOIN pg_publication b ON b.oid = r.prpubid
            WHERE r.prrelid = t.oid
        UNION ALL SELECT t.oid, 'sequence', s.sequence::text FROM flashsale.id_sequences() s WHERE s.relation = t.oid
        UNION ALL SELECT s.sequence, v.kind, v.value
            FROM flashsale.id_sequences() s JOIN pg_sequence q ON q.seqrelid = s.sequence,
            LATERAL (VALUES ('INCREMENT', q.seqincrement::text), ('MINVALUE', q.seqmin::text), ('MAXVALUE', q.seqmax::text),
                             ('CACHE', q.seqcache::text), ('CYCLE', q.seqcycle::text)) AS v (kind, value)
            WHERE s.relation = t.oid
        UNION ALL SELECT c.oid, 'owner', c.relowner::regrole::text FROM pg_class c JOIN pg_extension e ON e.extname = 'flashsale'
            WHERE c.oid = t.oid AND c.relowner <> e.extowner
    ) AS o (relation, kind, name)
$$;
COMMENT ON FUNCTION flashsale.definitions() IS 'Part of health(): what the tables and the sequences of ids consist of, as far as a dump does not carry it.';

CREATE FUNCTION flashsale.health_of_dumps(OUT severity text, OUT problem text, OUT detail text, OUT hint text) RETURNS SETOF record
LANGUAGE sql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
    WITH here AS MATERIALIZED (SELECT d.relation, d.kind, d.name FROM flashsale.definitions() d),
    own AS MATERIALIZED (
        SELECT 'flashsale.' || p.relation AS relation, p.kind, unnest(p.names) AS name FROM (VALUES
        ('trigger', 'items', '{guard_items,guard_items_truncate,check_item,raise_version}'::text[]),
        ('trigger', 'orders', '{guard_orders_truncate}'),
        ('trigger', 'node', '{forget_node}'),
        ('index', 'items', '{items_pkey}'),
        ('index', 'orders', '{orders_pkey,orders_idempotency_key,orders_holdings,orders_expiry,orders_item_expiry,orders_payment_deadline}'),
        ('index', 'payments', '{payments_pkey,payments_payment_ref_key,payments_order,payments_paid_once,payments_without_ref,payments_order_ref,payments_due_since}'),
        ('index', 'stock_movements', '{stock_movements_pkey,stock_movements_item,stock_movements_idempotency_key}'),
        ('index', 'node', '{node_pkey}'),
        ('constraint', 'items', '{items_inventory_range}'),
        ('constraint', 'orders', '{orders_units_held}'),
        ('constraint', 'payments', '{payments_fate}'),
        ('constraint', 'stock_movements', '{stock_movements_delta}'),
        ('constraint', 'node', '{node_is_only,node_range}'),
        ('column', 'items', '{item_id,inventory,stock,version,paused,max_per_user,starts_at,ends_at,reservation_ttl,unit_price,currency,name,created_at,cancelled_units,expired_units,refunded_units}'),
        ('column', 'orders', '{order_id,item_id,quantity,units_held,unit_price,created_at,expires_at,paying_at,payment_deadline,confirmed_at,closed_at,status,user_id,currency,idempotency_key,closed_by,close_reason,ref_code}'),
        ('column', 'payments', '{payment_id,order_id,payment_ref,amount,currency,status,why,created_at,due_since,refunded_at,refund_ref,order_ref}'),
        ('column', 'stock_movements', '{movement_id,item_id,delta,order_id,reason,moved_by,created_at,idempotency_key,stock_after,inventory_after}'),
        ('column', 'node', '{is_only,node,nodes}'),
        ('NOT NULL of column', 'items', '{item_id,inventory,stock,version,paused,created_at,cancelled_units,expired_units,refunded_units}'),
        ('NOT NULL of column', 'orders', '{order_id,item_id,quantity,units_held,created_at,status,user_id,ref_code}'),
        ('NOT NULL of column', 'payments', '{payment_id,status,created_at}'),
        ('NOT NULL of column', 'stock_movements', '{movement_id,item_id,delta,moved_by,created_at}'),
        ('NOT NULL of column', 'node', '{is_only,node,nodes}'),
        ('default of column', 'items', '{"version, 0,","paused, false,","created_at, clock_timestamp(),","cancelled_units, 0,","expired_units, 0,","refunded_units, 0,"}'),
        ('default of column', 'orders', '{"status, ''reserved''::text,","ref_code, flashsale.new_ref_code(),"}'),
        ('default of column', 'payments', '{"created_at, clock_timestamp(),"}'),
        ('default of column', 'stock_movements', '{"moved_by, SESSION_USER,","created_at, clock_timestamp(),"}'),
        ('default of column', 'node', '{"is_only, true,"}'),
        ('storage parameter', 'items', '{fillfactor=50,autovacuum_vacuum_scale_factor=0.0,autovacuum_vacuum_threshold=1000}'),
        ('storage parameter', 'orders', '{fillfactor=90,autovacuum_vacuum_scale_factor=0.05,autovacuum_analyze_scale_factor=0.05}'),
        ('sequence', 'items', '{flashsale.items_item_id_seq}'),
        ('sequence', 'orders', '{flashsale.orders_order_id_seq}'),
        ('sequence', 'payments', '{flashsale.payments_payment_id_seq}'),
        ('sequence', 'stock_movements', '{flashsale.stock_movements_movement_id_seq}')
        ) AS p (kind, relation, names)
        UNION ALL
        SELECT s.sequence::text, v.kind, v.value
        FROM flashsale.id_sequences() s,
             (VALUES ('INCREMENT', '1'), ('MINVALUE', '1'), ('MAXVALUE', '9007199254740991'), ('CACHE', '1'), ('CYCLE', 'false')) AS v (kind, value)
    ),
    -- A column may have another default, and its sequence another name.
    gone AS (
        SELECT w.relation, w.kind, CASE w.kind WHEN 'default of column' THEN split_part(w.name, ',', 1) WHEN 'sequence' THEN 'of ids' ELSE w.name END AS name FROM own w
        EXCEPT
        SELECT h.relation, h.kind, CASE h.kind WHEN 'default of column' THEN split_part(h.name, ',', 1) WHEN 'sequence' THEN 'of ids' ELSE h.name END FROM here h
    ),
    dumped AS (
        SELECT c.oid, c.oid::regclass::text AS name, CASE c.relkind WHEN 'S' THEN 'SEQUENCE' ELSE 'TABLE' END AS kind,
               c.oid = ANY (e.extconfig) IS TRUE AS is_registered,
               EXISTS (SELECT FROM pg_depend d WHERE d.classid = 'pg_class'::regclass AND d.objid = c.oid
                         AND d.refclassid = 'pg_extension'::regclass AND d.refobjid = e.oid AND d.deptype = 'e') AS is_member
        FROM (SELECT unnest(ARRAY[s.relation, s.sequence]) FROM flashsale.id_sequences() s UNION ALL SELECT 'flashsale.node') AS o (oid)
        JOIN pg_class c ON c.oid = o.oid JOIN pg_extension e ON e.extname = 'flashsale'
    )
    SELECT 'warning', 'not_dumped', format('%s of %s', concat_ws(' ', o.kind, o.name), o.relation), CASE o.kind
        WHEN 'INCREMENT' THEN 'pg_dump does not dump it, so in a restored database this server assigns the ids of the others. Keep the ALTER SEQUENCE that made it, to run it again after a restore.'
        ELSE 'pg_dump does not dump it, because the table is the extension''s. Keep the statement that made it, to run it again after a restore.' END
    FROM (SELECT * FROM (SELECT * FROM here EXCEPT SELECT * FROM own) d ORDER BY d.kind COLLATE "C", d.name COLLATE "C") AS o
UNION ALL
    SELECT 'error', 'definition_missing', format('%s of %s is gone', concat_ws(' ', o.kind, o.name), o.relation),
        'Make it again as the extension''s script does: flashsale--' || e.extversion || '.sql, in the folder extension of pg_config --sharedir.'
    FROM (SELECT * FROM gone g ORDER BY g.kind COLLATE "C", g.name COLLATE "C") AS o
    JOIN pg_extension e ON e.extname = 'flashsale'
    WHERE o.kind IN ('trigger', 'index', 'constraint', 'column', 'NOT NULL of column', 'default of column', 'sequence')
UNION ALL
    SELECT 'error', 'not_registered', format('%s is no longer %s, so a dump has no rows of it or cannot be restored', d.name,
            CASE WHEN d.is_member THEN 'registered for pg_dump' ELSE 'a member of the extension' END),
        CASE WHEN NOT d.is_member THEN format('SET flashsale.protect_data = off; ALTER EXTENSION flashsale ADD %s %s; RESET flashsale.protect_data; ', d.kind, d.name) ELSE '' END
        || CASE WHEN NOT d.is_registered THEN format('UPDATE pg_extension SET extconfig = array_append(extconfig, %L::regclass::oid), extcondition = array_append(extcondition, '''') WHERE extname = ''flashsale''', d.name) ELSE '' END
    FROM dumped d WHERE NOT (d.is_member AND d.is_registered)
UNION ALL
    -- A schema that is the extension's own is made anew by CREATE EXTENSION.
    SELECT 'error', 'schema_owner', format('schema flashsale belongs to %I, who is no superuser: restoring a dump would fail', r.rolname),
        format('ALTER SCHEMA flashsale OWNER TO %s', e.extowner::regrole)
    FROM pg_namespace n JOIN pg_roles r ON r.oid = n.nspowner JOIN pg_extension e ON e.extname = 'flashsale'
    WHERE n.nspname = 'flashsale' AND NOT r.rolsuper
      AND NOT EXISTS (SELECT FROM pg_depend d WHERE d.classid = 'pg_namespace'::regclass AND d.objid = n.oid
                        AND d.refclassid = 'pg_extension'::regclass AND d.deptype = 'e')
$$;
COMMENT ON FUNCTION flashsale.health_of_dumps() IS 'Part of health(): what a dump does not carry, and what is gone of the tables. What the extension itself has is listed here.';

CREATE FUNCTION flashsale.health_of_installation(OUT severity text, OUT problem text, OUT detail text, OUT hint text) RETURNS SETOF record
LANGUAGE sql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
    SELECT 'warning', 'sessions_hidden', format('%I owns the extension, but may not see what other sessions do, so health() shows neither missing workers nor sessions in the way', current_user),
        format('GRANT pg_read_all_stats TO %I', current_user)
    WHERE NOT pg_has_role('pg_read_all_stats', 'USAGE')
UNION ALL
    SELECT 'warning', 'data_not_protected', 'flashsale.protect_data is off by default: DROP EXTENSION deletes all orders',
        'Set flashsale.protect_data to on in postgresql.conf.'
    FROM pg_settings s WHERE s.name = 'flashsale.protect_data' AND s.reset_val = 'off'
UNION ALL
    SELECT 'error', 'unlogged', format('%s is UNLOGGED: a crash empties it, and standbys do not have its rows', o.oid),
        format('ALTER %s %s SET LOGGED', CASE c.relkind WHEN 'S' THEN 'SEQUENCE' ELSE 'TABLE' END, o.oid)
    FROM (SELECT unnest(ARRAY[s.relation, s.sequence]) FROM flashsale.id_sequences() s UNION ALL SELECT 'flashsale.node') AS o (oid)
    JOIN pg_class c ON c.oid = o.oid AND c.relpersistence = 'u'
UNION ALL
    SELECT 'error', 'trigger_disabled', format('trigger %I of %s is disabled, so nothing holds its rules', g.tgname, g.tgrelid::regclass),
        format('ALTER TABLE %s ENABLE TRIGGER %I', g.tgrelid::regclass, g.tgname)
    FROM pg_trigger g JOIN pg_class c ON c.oid = g.tgrelid JOIN pg_proc p ON p.oid = g.tgfoid
    WHERE c.relnamespace = 'flashsale'::regnamespace AND p.pronamespace = c.relnamespace
      AND NOT g.tgisinternal AND g.tgenabled IN ('D', 'R')
UNION ALL
    SELECT 'warning', 'guard_disabled', format('event trigger %s is %s: who has not loaded the library can drop or change the tables',
            own.name, CASE WHEN g.oid IS NULL THEN 'gone' ELSE 'disabled' END),
        CASE WHEN g.oid IS NULL THEN 'Make it again as the extension''s script does: flashsale--' || e.extversion || '.sql, in the folder extension of pg_config --sharedir.'
        ELSE format('ALTER EVENT TRIGGER %s ENABLE ALWAYS', own.name) END
    FROM pg_extension e CROSS JOIN unnest('{flashsale_guard,flashsale_guard_end}'::text[]) AS own (name)
    LEFT JOIN pg_event_trigger g ON g.evtname = own.name
    WHERE e.extname = 'flashsale' AND (g.oid IS NULL OR g.evtenabled IN ('D', 'R'))
UNION ALL
    SELECT 'warning', 'event_triggers_off', 'event_triggers is off by default: who has not loaded the library can drop or change the tables',
        'Set event_triggers to on in postgresql.conf.'
    FROM pg_settings s WHERE s.name = 'event_triggers' AND s.reset_val = 'off'
$$;
COMMENT ON FUNCTION flashsale.health_of_installation() IS 'Part of health(): the protection of the data.';

CREATE FUNCTION flashsale.health(OUT severity text, OUT problem text, OUT detail text, OUT hint text) RETURNS SETOF record
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET lock_timeout = '100ms'
SET quote_all_identifiers = off -- names are compared as they are written here
AS $$
DECLARE
    part text;
    is_locked boolean := false;
BEGIN
    RETURN QUERY SELECT * FROM flashsale.health_of_library();
    IF NOT FOUND THEN -- else what calls the library fails, and its hints do harm
        RETURN QUERY SELECT * FROM flashsale.health_of_version();
        RETURN QUERY SELECT * FROM flashsale.health_of_service();
        IF NOT FOUND THEN
            RETURN QUERY SELECT * FROM flashsale.health_of_workers();
        END IF;
    END IF;
    RETURN QUERY SELECT * FROM flashsale.health_of_sessions(clock_timestamp());
    RETURN QUERY SELECT * FROM flashsale.health_of_commits();
    RETURN QUERY SELECT * FROM flashsale.health_of_installation();
    -- These read the tables, or what belongs to them. One that fails does not hide what the others find.
    FOREACH part IN ARRAY '{health_of_dumps, health_of_work, health_of_ids}'::text[] LOOP
        BEGIN
            RETURN QUERY EXECUTE format('SELECT * FROM flashsale.%I()', part);
        EXCEPTION WHEN lock_not_available THEN
            is_locked := true;
        WHEN undefined_table OR undefined_column OR undefined_function OR feature_not_supported THEN
            RETURN QUERY SELECT 'error', 'definition_missing', format('%s() fails: %s', part, SQLERRM),
                'Make what is missing again as the extension''s script does, in the folder extension of pg_config --sharedir.';
        END;
    END LOOP;
    IF is_locked THEN
        RETURN QUERY SELECT 'error', 'tables_locked',
            format('%s %s %s on %s, so that nothing is sold, and health() is not complete', coalesce('process ' || a.pid || ' (' || a.state || ')', 'a prepared transaction'),
                   CASE WHEN l.granted THEN 'holds' ELSE 'waits for' END, l.mode, l.relation::regclass),
            coalesce('Let it end, or end it: SELECT pg_terminate_backend(' || a.pid || ').', 'Commit it or roll it back: see pg_prepared_xacts.')
        FROM pg_locks l JOIN pg_class c ON c.oid = l.relation LEFT JOIN pg_stat_activity a ON a.pid = l.pid
        WHERE l.database = (SELECT d.oid FROM pg_database d WHERE d.datname = current_database())
          AND c.relnamespace = 'flashsale'::regnamespace AND c.relkind IN ('r', 'S', 'i') AND l.mode = 'AccessExclusiveLock';
        IF NOT FOUND THEN
            RETURN QUERY SELECT 'error', 'tables_locked', 'a lock was not obtained within 0.1 seconds, and health() is not complete', 'Call it again.';
        END IF;
    END IF;
END $$;
COMMENT ON FUNCTION flashsale.health() IS
'One row for each thing that needs a person, none if all is well: severity (error or warning), problem, detail, and in hint what to do. Reads catalogs, statistics and the ends of indexes, so it takes tens of milliseconds at any size. Locks nothing, and waits for the lock of a table for 0.1 seconds at most.';
