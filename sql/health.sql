-- What needs a person: one row for each problem. Reads catalogs, statistics views and the ends of indexes, no table whole.

CREATE FUNCTION flashsale.health(OUT severity text, OUT problem text, OUT detail text, OUT hint text) RETURNS SETOF record
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    moment CONSTANT timestamptz := clock_timestamp();
    -- The name in flashsale.database, if the library is preloaded.
    served CONSTANT text := (SELECT s.setting FROM pg_settings s WHERE s.name = 'flashsale.database' AND s.context = 'postmaster');
    is_copy CONSTANT boolean := EXISTS (
        SELECT FROM pg_subscription_rel r JOIN pg_class c ON c.oid = r.srrelid
        WHERE c.relnamespace = 'flashsale'::regnamespace);
    tables CONSTANT oid[] := ARRAY['flashsale.items'::regclass, 'flashsale.orders', 'flashsale.payments', 'flashsale.stock_movements'];
    sequence text;
    newest bigint;
    reached bigint;
BEGIN
    -- The workers.
    IF served IS NULL THEN
        RETURN QUERY SELECT 'warning', 'not_preloaded', 'flashsale is not in shared_preload_libraries: there are no workers',
            'Preload it and restart the server, or call flashsale.reconcile_stale_reservations() every few seconds.';
    ELSIF served <> current_database() THEN
        RETURN QUERY SELECT 'warning', 'other_database', format('the workers serve database %I', served),
            'Set flashsale.database to this database and restart the server, or call flashsale.reconcile_stale_reservations() every few seconds.';
    ELSIF is_copy THEN
        RETURN QUERY SELECT 'warning', 'copy_of_subscription', 'a subscription writes the tables, so the workers leave them alone',
            'To sell here, drop the subscription and set the sequences past the ids in the tables.';
    ELSE
        RETURN QUERY SELECT 'error', 'worker_missing', format('there is no flashsale %s', w.worker),
            'If it does not come within seconds, raise max_worker_processes and restart the server, and see the server''s log.'
        FROM unnest(ARRAY['launcher', 'seller', 'publisher', 'reconciler']) AS w (worker)
        WHERE NOT pg_is_in_recovery()
          AND NOT EXISTS (SELECT FROM pg_stat_activity a WHERE a.backend_type = 'flashsale ' || w.worker);
        RETURN QUERY SELECT 'warning', 'queue_full', format('%s calls wait for the seller', s.value),
            'The seller does not keep up: look for slow triggers on flashsale.orders, and for locked items; flashsale.queue_size bounds the queue.'
        FROM flashsale.read_stats() s
        WHERE s.subject = 'seller' AND s.name = 'waiting' AND s.value >= 0.75 * current_setting('flashsale.queue_size')::int;
    END IF;

    -- Work that nobody does.
    RETURN QUERY SELECT 'error', 'stale_reservations',
        format('%s orders are reserved though they have expired, the oldest since %s', CASE WHEN count(*) > 1000 THEN 'more than 1000' ELSE count(*)::text END, min(o.expires_at)),
        'Nobody expires them: call flashsale.reconcile_stale_reservations() every few seconds, or see why the reconciler does not; the server''s log says so.'
    FROM (SELECT i.expires_at FROM flashsale.orders i
          WHERE i.status = 'reserved' AND NOT is_copy
            AND i.expires_at < moment - interval '1 minute' - coalesce(current_setting('flashsale.reconcile_interval', true), '10s')::interval
          ORDER BY i.expires_at LIMIT 1001) o
    HAVING count(*) > 0;
    RETURN QUERY SELECT 'warning', 'payment_checks_overdue',
        format('%s orders have been in paying for more than 10 minutes after their deadline, the oldest since %s', CASE WHEN count(*) > 1000 THEN 'more than 1000' ELSE count(*)::text END, min(o.payment_deadline)),
        'For each row of flashsale.payment_checks ask the gateway, then call confirm_order or cancel_order.'
    FROM (SELECT i.payment_deadline FROM flashsale.orders i
          WHERE i.status = 'paying' AND i.payment_deadline < moment - interval '10 minutes'
          ORDER BY i.payment_deadline LIMIT 1001) o
    HAVING count(*) > 0;
    RETURN QUERY SELECT 'warning', 'refunds_overdue',
        format('%s charges have been due for refund for more than an hour, the oldest since %s', CASE WHEN count(*) > 1000 THEN 'more than 1000' ELSE count(*)::text END, min(p.due_since)),
        'Refund each row of flashsale.refunds_due at the gateway, then call refund_payment.'
    FROM (SELECT i.due_since FROM flashsale.payments i
          WHERE i.status = 'due' AND i.due_since < moment - interval '1 hour'
          ORDER BY i.due_since LIMIT 1001) p
    HAVING count(*) > 0;

    -- Sessions in the way of others.
    RETURN QUERY SELECT DISTINCT 'error', 'items_locked',
        format('process %s (%s) has locked or changed items since %s', a.pid, a.state, a.xact_start),
        format('Its items are not sold meanwhile. Let it commit, or end it: SELECT pg_terminate_backend(%s).', a.pid)
    FROM pg_locks l JOIN pg_stat_activity a USING (pid)
    WHERE l.relation = 'flashsale.items'::regclass AND l.database = (SELECT d.oid FROM pg_database d WHERE d.datname = current_database())
      AND l.granted AND l.mode NOT IN ('AccessShareLock', 'ShareUpdateExclusiveLock')
      AND a.pid <> pg_backend_pid() AND a.xact_start < moment - interval '5 seconds';
    RETURN QUERY SELECT 'warning', 'old_snapshot', format('process %s (%s, %s) has had its snapshot for more than a minute, since %s', a.pid, coalesce(a.usename, a.backend_type), a.state, a.xact_start),
        'Each sale leaves a version of its item''s row that cannot be removed meanwhile. End it, or run it on a standby.'
    FROM pg_stat_activity a
    WHERE a.backend_xmin IS NOT NULL AND a.backend_type <> 'walsender' AND a.pid <> pg_backend_pid() AND a.xact_start < moment - interval '1 minute';
    RETURN QUERY SELECT 'warning', 'idle_in_transaction', format('process %s (%s) is idle in a transaction for more than a minute, since %s', a.pid, a.usename, a.state_change),
        'It may hold locks, and keeps row versions from being removed. Set idle_in_transaction_session_timeout.'
    FROM pg_stat_activity a
    WHERE a.state LIKE 'idle in transaction%' AND a.datname = current_database() AND a.state_change < moment - interval '1 minute';
    RETURN QUERY SELECT 'warning', 'prepared_transaction', format('transaction %L is prepared since %s', x.gid, x.prepared),
        'It holds its locks until COMMIT PREPARED or ROLLBACK PREPARED.'
    FROM pg_prepared_xacts x WHERE x.database = current_database() AND x.prepared < moment - interval '1 minute';

    -- Commits that can be lost.
    RETURN QUERY SELECT s.severity, s.setting || '_off', s.detail, 'Set ' || s.setting || ' to on.'
    FROM (VALUES ('error', 'fsync', 'a crash of the machine can lose or corrupt everything'),
                 ('error', 'full_page_writes', 'a crash of the machine can corrupt tables'),
                 ('warning', 'synchronous_commit', 'a crash can lose the orders and payments of the last moments, though their calls succeeded')) AS s (severity, setting, detail)
    JOIN pg_settings g ON g.name = s.setting
    WHERE g.reset_val = 'off';
    IF current_setting('synchronous_standby_names') <> '' AND NOT pg_is_in_recovery() THEN
        RETURN QUERY SELECT 'warning', 'not_synchronous', 'synchronous_standby_names is set, but synchronous_commit = ' || g.reset_val || ' waits for no standby',
            'A failover can lose orders. Set synchronous_commit to on.'
        FROM pg_settings g WHERE g.name = 'synchronous_commit' AND g.reset_val IN ('off', 'local');
        RETURN QUERY SELECT 'error', 'no_synchronous_standby', 'no standby in synchronous_standby_names is connected, so no commit returns',
            'Bring the standby back, or change synchronous_standby_names.'
        WHERE NOT EXISTS (SELECT FROM pg_stat_replication r WHERE r.sync_state IN ('sync', 'quorum'));
    END IF;

    -- Ids.
    FOR sequence, newest, reached IN
        SELECT 'items_item_id_seq', NULL::bigint, s.last_value FROM flashsale.items_item_id_seq s -- ids may be chosen
        UNION ALL
        SELECT 'orders_order_id_seq', (SELECT max(o.order_id) FROM flashsale.orders o), s.last_value - (NOT s.is_called)::int
        FROM flashsale.orders_order_id_seq s
        UNION ALL
        SELECT 'payments_payment_id_seq', (SELECT max(p.payment_id) FROM flashsale.payments p), s.last_value - (NOT s.is_called)::int
        FROM flashsale.payments_payment_id_seq s
        UNION ALL
        SELECT 'stock_movements_movement_id_seq', (SELECT max(m.movement_id) FROM flashsale.stock_movements m), s.last_value - (NOT s.is_called)::int
        FROM flashsale.stock_movements_movement_id_seq s
    LOOP
        IF reached < newest THEN
            RETURN QUERY SELECT 'error', 'sequence_behind', format('flashsale.%s is at %s, but its table at %s', sequence, reached, newest),
                format('SELECT setval(''flashsale.%s'', %s)', sequence, newest);
        END IF;
        IF reached > 0.9 * 9007199254740991 THEN
            RETURN QUERY SELECT 'warning', 'sequence_near_its_end', format('flashsale.%s is at %s of 9007199254740991', sequence, reached),
                'After that nothing can be inserted: find out who has set it that far.';
        END IF;
    END LOOP;

    -- What a dump does not carry. What the extension itself has is listed here.
    RETURN QUERY SELECT 'warning', 'not_dumped', format('%s %s of flashsale.%s', o.kind, o.name, c.relname),
        'pg_dump does not dump it, because the table is the extension''s. Keep the statement that made it, to run it again after a restore.'
    FROM (SELECT t.tgrelid, 'trigger', t.tgname FROM pg_trigger t WHERE t.tgrelid = ANY (tables) AND NOT t.tgisinternal
          UNION ALL SELECT i.indrelid, 'index', x.relname FROM pg_index i JOIN pg_class x ON x.oid = i.indexrelid WHERE i.indrelid = ANY (tables)
          UNION ALL SELECT k.conrelid, 'constraint', k.conname FROM pg_constraint k WHERE k.conrelid = ANY (tables) AND k.contype IN ('c', 'f')
          UNION ALL SELECT a.attrelid, 'column', a.attname FROM pg_attribute a WHERE a.attrelid = ANY (tables) AND a.attnum > 0 AND NOT a.attisdropped
          UNION ALL SELECT p.polrelid, 'policy', p.polname FROM pg_policy p WHERE p.polrelid = ANY (tables)
          UNION ALL SELECT r.ev_class, 'rule', r.rulename FROM pg_rewrite r WHERE r.ev_class = ANY (tables)
          UNION ALL SELECT h.inhrelid, 'parent', h.inhparent::regclass::text FROM pg_inherits h WHERE h.inhrelid = ANY (tables)
          UNION ALL SELECT r.prrelid, 'membership in publication', b.pubname FROM pg_publication_rel r JOIN pg_publication b ON b.oid = r.prpubid
              WHERE r.prrelid = ANY (tables)
         ) AS o (relation, kind, name)
    JOIN pg_class c ON c.oid = o.relation
    WHERE NOT (o.kind, o.name) IN (
          SELECT p.kind, n FROM (VALUES
              ('trigger', 'items', '{guard_items,guard_items_truncate,check_item,raise_version}'::text[]),
              ('index', 'items', '{items_pkey}'),
              ('index', 'orders', '{orders_pkey,orders_idempotency_key,orders_holdings,orders_expiry,orders_item_expiry,orders_payment_deadline}'),
              ('index', 'payments', '{payments_pkey,payments_payment_ref_key,payments_order,payments_paid_once,payments_without_ref,payments_order_ref,payments_due_since}'),
              ('index', 'stock_movements', '{stock_movements_pkey,stock_movements_item,stock_movements_idempotency_key}'),
              ('constraint', 'items', '{items_inventory_range}'),
              ('constraint', 'orders', '{orders_units_held}'),
              ('constraint', 'payments', '{payments_fate}'),
              ('constraint', 'stock_movements', '{stock_movements_delta}'),
              ('column', 'items', '{item_id,inventory,stock,version,paused,max_per_user,starts_at,ends_at,reservation_ttl,unit_price,currency,name,created_at,cancelled_units,expired_units,refunded_units}'),
              ('column', 'orders', '{order_id,item_id,quantity,units_held,unit_price,created_at,expires_at,paying_at,payment_deadline,confirmed_at,closed_at,status,user_id,currency,idempotency_key,closed_by,close_reason,ref_code}'),
              ('column', 'payments', '{payment_id,order_id,payment_ref,amount,currency,status,why,created_at,due_since,refunded_at,refund_ref,order_ref}'),
              ('column', 'stock_movements', '{movement_id,item_id,delta,order_id,reason,moved_by,created_at,idempotency_key,stock_after,inventory_after}')
          ) AS p (kind, relation, names), unnest(p.names) AS n
          WHERE p.relation = c.relname)
    ORDER BY o.kind, o.name;

    RETURN QUERY SELECT 'warning', 'data_not_protected', 'flashsale.protect_data is off by default: DROP EXTENSION deletes all orders',
        'Set flashsale.protect_data to on in postgresql.conf.'
    FROM pg_settings s WHERE s.name = 'flashsale.protect_data' AND s.reset_val = 'off';
    RETURN QUERY SELECT 'warning', 'other_version', format('the extension in this database has version %s, the installed files %s', x.installed_version, x.default_version),
        'ALTER EXTENSION flashsale UPDATE'
    FROM pg_available_extensions x WHERE x.name = 'flashsale' AND x.installed_version <> x.default_version;
END $$;
COMMENT ON FUNCTION flashsale.health() IS
'One row for each thing that needs a person, none if all is well: severity (error or warning), problem, detail, and in hint what to do. Reads catalogs, statistics and the ends of indexes, so it takes milliseconds at any size; locks nothing.';
