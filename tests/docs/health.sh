# shellcheck shell=bash
# Each problem that health() knows of appears, and goes away. Sourced by run; restarts the server.
# What an hour or so must pass for is shown as of an hour later.

shown=
healthy='SELECT count(*) = 0 FROM flashsale.health()'
an_hour_later="flashsale.health_of_sessions(clock_timestamp() + interval '1 h')"

# appeared NAME COMMAND...: the command prints t, perhaps later. The limit ends what would hang.
appeared() {
    local _
    for _ in {1..3000}; do
        if [ "$("${@:2}" 2>/dev/null)" = t ]; then
            pass
            shown+=$1$'\n'
            return
        fi
        sleep 0.1
    done
    fail "health() does not show $1"
}

# has NAME [FUNCTION]
has() { ask -c "SELECT count(*) > 0 FROM ${2:-flashsale.health()} WHERE problem = '$1'"; }

until_healthy() {
    local _
    for _ in {1..3000}; do
        if [ "$(ask -c "$healthy" 2>/dev/null)" = t ]; then
            pass
            return
        fi
        sleep 0.1
    done
    fail "$1 does not go away" "$(ask -c 'SELECT * FROM flashsale.health()' 2>&1)"
}

# within_transaction NAME SQL: while that is done, and not after it was rolled back.
within_transaction() {
    appeared "$1" ask -c 'BEGIN' -c 'SET LOCAL flashsale.protect_data = off' \
        -c "DO \$do\$ BEGIN $2; END \$do\$" \
        -c "SELECT count(*) > 0 FROM flashsale.health() WHERE problem = '$1'" -c 'ROLLBACK'
    until_healthy "$1"
}

# with_options NAME OPTIONS: in a session with these options.
with_options() {
    PGOPTIONS="$PGOPTIONS $2" appeared "$1" has "$1"
    until_healthy "$1"
}

# set_server SETTING...; with none, all of them are as before.
set_server() {
    local setting
    if [ $# = 0 ]; then ask -c 'ALTER SYSTEM RESET ALL'; fi
    for setting; do ask -c "ALTER SYSTEM SET $setting"; done
    ask -c 'SELECT pg_reload_conf()' >/dev/null
}

# with_settings NAME SETTING...: while the server has these settings.
with_settings() {
    set_server "${@:2}"
    appeared "$1" has "$1"
    set_server
    until_healthy "$1"
}

restart() {
    (cd / && $PG_RUN_AS "$PG_BINDIR/pg_ctl" -D "$PG_DATA" -l "$PG_LOG" -m fast -o "$*" restart >/dev/null)
}

# after_restart NAME OPTIONS
after_restart() {
    restart "$2"
    appeared "$1" has "$1"
    restart
    until_healthy "$1"
}

# in_another_session NAME SQL [COMMAND...]: while another session's transaction has done that, and
# then the command was run; an hour later.
in_another_session() {
    local other
    coproc OTHER { psql -XqAt; }
    other=$OTHER_PID
    echo "BEGIN ISOLATION LEVEL REPEATABLE READ; $2; SELECT 'ready';" >&"${OTHER[1]}"
    grep -q ready <&"${OTHER[0]}"
    "${@:3}"
    appeared "$1" has "$1" "$an_hour_later"
    echo '\q' >&"${OTHER[1]}"
    wait "$other"
    until_healthy "$1"
}

# prepared NAME SQL [FUNCTION]: while a prepared transaction has done that.
prepared() {
    ask -c 'BEGIN' -c "$2" -c "PREPARE TRANSACTION 'other'"
    appeared "$1" has "$1" "${3:-}"
    ask -c "ROLLBACK PREPARED 'other'"
    until_healthy "$1"
}

# with_seller_stopped NAME SETTING...: two buyers wait for it, again and again.
with_seller_stopped() {
    local seller buyers=() n
    set_server "${@:2}"
    seller=$(ask -c "SELECT pid FROM pg_stat_activity WHERE backend_type = 'flashsale seller'")
    kill -STOP "$seller"
    for n in 1 2; do
        (while ask -c "SELECT flashsale.purchase_item(1, 'buyer $n', strategy => 'grouped')" >/dev/null; do :; done) &
        buyers+=($!)
    done
    appeared "$1" has "$1"
    kill "${buyers[@]}"
    kill -CONT "$seller"
    set_server
    until_healthy "$1"
}

copy_of_subscription() {
    ask -c 'CREATE DATABASE origin'
    ask -d origin -c 'CREATE EXTENSION flashsale' -c 'CREATE PUBLICATION sales FOR TABLE flashsale.orders' 2>/dev/null
    ask -c "CREATE SUBSCRIPTION sales CONNECTION 'host=$PGHOST port=$PGPORT user=$PGUSER dbname=origin'
            PUBLICATION sales WITH (create_slot = false, enabled = false, copy_data = false)" 2>/dev/null
    appeared copy_of_subscription has copy_of_subscription
    ask -c 'ALTER SUBSCRIPTION sales SET (slot_name = NONE)' -c 'DROP SUBSCRIPTION sales' -c 'DROP DATABASE origin'
    until_healthy copy_of_subscription
}

# What the code calls problems, some of them without this ending.
all_were_shown() {
    local name
    while read -r name; do
        check "no test makes the problem $name of health() appear" grep -qE "^$name(_off)?\$" <<<"$shown"
    done < <(problems_of_health)
}

check_each_problem() {
    clear
    ask -c 'CREATE EXTENSION flashsale' -c "
        SELECT flashsale.create_item(100000, item_id => 1), flashsale.create_item(3, item_id => 2);
        SELECT flashsale.purchase_item(2, 'buyer') FROM generate_series(1, 3)" >/dev/null
    until_healthy 'CREATE EXTENSION'

    within_transaction stale_reservations "UPDATE flashsale.orders SET expires_at = clock_timestamp() - interval '1 d'"
    within_transaction payment_checks_overdue "PERFORM flashsale.begin_payment(1);
        UPDATE flashsale.orders SET payment_deadline = clock_timestamp() - interval '1 d' WHERE order_id = 1"
    within_transaction refunds_overdue "PERFORM flashsale.confirm_order(99, 'charge', 5, 'EUR');
        UPDATE flashsale.payments SET due_since = clock_timestamp() - interval '1 d'"
    within_transaction sequence_behind 'UPDATE flashsale.orders SET order_id = 1000 WHERE order_id = 1'
    within_transaction sequence_near_its_end 'ALTER SEQUENCE flashsale.orders_order_id_seq MAXVALUE 3'
    within_transaction not_dumped 'CREATE INDEX ON flashsale.orders (created_at)'
    within_transaction not_registered "UPDATE pg_extension SET extconfig = NULL, extcondition = NULL WHERE extname = 'flashsale'"
    within_transaction definition_missing 'DROP INDEX flashsale.orders_expiry'
    within_transaction sessions_hidden 'CREATE ROLE extension_owner SUPERUSER; DROP EXTENSION flashsale; SET LOCAL ROLE extension_owner;
        CREATE EXTENSION flashsale; RESET ROLE; ALTER ROLE extension_owner NOSUPERUSER'
    within_transaction unlogged 'ALTER TABLE flashsale.stock_movements SET UNLOGGED'
    within_transaction trigger_disabled 'ALTER TABLE flashsale.items DISABLE TRIGGER check_item'
    within_transaction guard_disabled 'ALTER EVENT TRIGGER flashsale_guard DISABLE'
    within_transaction library_missing "UPDATE pg_proc SET probin = '\$libdir/gone' WHERE probin = 'flashsale'"
    within_transaction other_version "UPDATE pg_extension SET extversion = '0.1.0' WHERE extname = 'flashsale'"
    # As if the schema had been made before the extension.
    within_transaction schema_owner "CREATE ROLE schema_owner; ALTER SCHEMA flashsale OWNER TO schema_owner;
        DELETE FROM pg_depend WHERE classid = 'pg_namespace'::regclass AND objid = 'flashsale'::regnamespace AND deptype = 'e'"

    in_another_session items_locked 'SELECT FROM flashsale.items FOR UPDATE'
    in_another_session idle_in_transaction 'SELECT 1'
    in_another_session old_snapshot 'SELECT 1' ask -c \
        "DO 'BEGIN FOR n IN 1..1100 LOOP PERFORM pg_current_xact_id(); COMMIT; END LOOP; END'"
    prepared tables_locked 'LOCK TABLE flashsale.payments'
    prepared prepared_transaction 'CREATE TABLE other ()' "$an_hour_later"

    with_options synchronous_commit_off '-c synchronous_commit=off'
    with_options data_not_protected '-c flashsale.protect_data=off'
    with_settings fsync_off 'fsync = off'
    with_settings full_page_writes_off 'full_page_writes = off'
    with_settings not_synchronous "synchronous_standby_names = '*'" 'synchronous_commit = local'
    with_settings standby_missing "synchronous_standby_names = 'nobody'"
    # PostgreSQL has this setting from 17 on.
    if [ "$(ask -c "SELECT current_setting('event_triggers', true)")" ]; then
        with_options event_triggers_off '-c event_triggers=off'
    else
        shown+=event_triggers_off$'\n'
    fi

    copy_of_subscription
    with_seller_stopped seller_slow
    with_seller_stopped queue_full 'flashsale.queue_size = 2' "flashsale.group_wait = '60s'"
    after_restart worker_missing '-c max_worker_processes=1'
    after_restart other_database '-c flashsale.database=other'
    after_restart not_preloaded '-c shared_preload_libraries='
    all_were_shown
}
