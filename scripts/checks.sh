# shellcheck shell=bash
# Sourced by tests, after env.sh: checks that are counted, waiting for a condition, and blocks of documents.
: "${root:?}"

passed=0 failed=0
# is WHAT WANT GOT
is() {
    if [ "$2" = "$3" ]; then passed=$((passed + 1)) && return; fi
    failed=$((failed + 1))
    printf '%s\n' "FAIL $1" "  wanted: $2" "  got:    $3"
}

# Waits until a command succeeds. The limit ends what would hang.
await() {
    local _
    for _ in {1..6000}; do
        if "$@" >/dev/null 2>&1; then return; fi
        sleep 0.02
    done
    die "this did not happen: $*"
}
# Waits until a query, which is a command, answers t.
await_true() { await answers_t "$@"; }
answers_t() { [ "$("$@")" = t ]; }

# The n-th block of a kind in a section of a document: block DOCUMENT SECTION KIND N
block() {
    local text
    text=$(awk -v title="## $2" -v fence="\`\`\`$3" -v n="$4" '
        /^## / { here = $0 == title }
        /^```/ { inside = here && $0 == fence && ++seen == n; next }
        inside' "$root/$1")
    [ -n "$text" ] || die "$1 has no block $4 of $3 in the section $2"
    echo "$text"
}
