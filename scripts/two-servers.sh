# shellcheck shell=bash
# Sourced by tests that take a sale from PostgreSQL 15 to PG_MAJOR. The extension must be built for both. However such
# a test ends, its servers are stopped and their folder is removed.
# shellcheck source=scripts/env.sh
. "$(dirname "${BASH_SOURCE[0]}")/env.sh"

from=15
if [ "$PG_MAJOR" -le "$from" ]; then
    die "PG_MAJOR is $PG_MAJOR: choose 16, 17 or 18, to which a server with PostgreSQL $from is taken"
fi
# shellcheck disable=SC2016 # the other shell expands it
old_bin=$(PG_MAJOR=$from bash -c '. "$0/scripts/env.sh" && echo "$PG_BINDIR"' "$root")
new_bin=$PG_BINDIR
for bin in "$old_bin" "$new_bin"; do
    [ -f "$("$bin/pg_config" --sharedir)/extension/flashsale.control" ] ||
        die "the extension is not built for $("$bin/postgres" --version): run make build PG_MAJOR=…"
done

run_as=
if [ "$(id -u)" = 0 ]; then run_as="runuser -u postgres --"; fi
folder=$(mktemp -d /var/tmp/flashsale.XXXXXX)
trap clean_up EXIT
trap 'trap "" INT TERM HUP; exit 130' INT TERM HUP # a second one must not end the cleaning up
for name in $(compgen -e PG | grep -vE '^(PG_|PGRX)'); do unset "$name"; done
export PGHOST=$folder PGUSER=postgres PGDATABASE=shop
touch "$folder/log"
if [ -n "$run_as" ]; then chown -R postgres: "$folder"; fi

as_server() { (cd "$folder" && $run_as env -u RUST_BACKTRACE "$@"); }
bin() { if [ "$1" = old ]; then echo "$old_bin"; else echo "$new_bin"; fi; }
# server NAME OPTION...: pg_ctl for one of the clusters, of which `old` has PostgreSQL 15.
server() { as_server "$(bin "$1")/pg_ctl" -D "$folder/$1" -l "$folder/log" "${@:2}"; }
clean_up() {
    local cluster
    jobs -p | xargs -r kill 2>/dev/null || true
    for cluster in "$folder"/*/; do
        server "$(basename "$cluster")" -m immediate stop >/dev/null 2>&1 || true # it may be down
    done
    rm -rf "$folder"
}
# make_cluster NAME SETTING...
make_cluster() {
    local checksums=()
    if [ "$1" != old ] && [ "$PG_MAJOR" -ge 18 ]; then checksums=(--no-data-checksums); fi
    as_server "$(bin "$1")/initdb" -D "$folder/$1" -A trust -U postgres -E UTF8 --no-locale --no-sync \
        "${checksums[@]}" >/dev/null
    printf '%s\n' "listen_addresses = ''" "unix_socket_directories = '$folder'" "${@:2}" >>"$folder/$1/postgresql.conf"
}
# shellcheck disable=SC2034 # for scripts that source this one
preloaded=("shared_preload_libraries = flashsale" "flashsale.database = shop")
ask() { "$old_bin/psql" -XqAt -v ON_ERROR_STOP=1 "$@"; }
# The same for a check, which then fails.
got() { ask "$@" || echo "psql failed"; }
# The SQLSTATE of a statement.
sqlstate() { ask -v VERBOSITY=sqlstate "$@" 2>&1 | sed 's/^ERROR: *//'; }

passed=0 failed=0
# is WHAT WANT GOT
is() {
    if [ "$2" = "$3" ]; then passed=$((passed + 1)) && return; fi
    failed=$((failed + 1))
    printf '%s\n' "FAIL $1" "  wanted: $2" "  got:    $3"
}

# Item 7, with orders in all states, some of which are named by their buyers in the view `of`.
sell_in_all_states() {
    ask <<'SQL' >"$folder/sold"
SELECT flashsale.create_item(1000, 'a "cup"', 250, 'EUR', item_id => 7);
SELECT flashsale.restock_item(7, 5, 'found some', 'a key');
SELECT flashsale.purchase_item(7, user_id, 1, 'click') FROM unnest('{
    reserved,stale,paying,confirmed,cancelled,expired,refunded,due}'::text[]) AS user_id;
CREATE VIEW of AS SELECT user_id, order_id AS id FROM flashsale.orders;
SELECT flashsale.begin_payment(id) FROM of WHERE user_id IN ('paying', 'confirmed');
SELECT flashsale.confirm_order(id, user_id || ' charge', 250, 'EUR') FROM of WHERE user_id IN ('confirmed', 'refunded', 'due');
SELECT flashsale.cancel_order(id) FROM of WHERE user_id = 'cancelled';
SELECT flashsale.refund_order(id, restock => user_id = 'due') FROM of WHERE user_id IN ('refunded', 'due');
SELECT flashsale.refund_payment('refunded charge', 'gateway refund');
SELECT flashsale.confirm_order('7-0123456789', 'lost charge', 250, 'EUR');
UPDATE flashsale.orders SET expires_at = clock_timestamp() WHERE user_id = 'expired';
SELECT flashsale.reconcile_stale_reservations();
UPDATE flashsale.orders SET expires_at = clock_timestamp() WHERE user_id = 'stale';
CREATE TABLE parcels (order_id bigint PRIMARY KEY REFERENCES flashsale.orders, item_id bigint REFERENCES flashsale.items);
INSERT INTO parcels SELECT id, 7 FROM of WHERE user_id = 'confirmed';
SQL
    is "orders in all states" 6 "$(got -c 'SELECT count(DISTINCT status) FROM flashsale.orders')"
    is "the audit before" "" "$(got -c 'SELECT * FROM flashsale.audit()')"
}
