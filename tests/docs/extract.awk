# Turns the ```sql blocks of a Markdown file into a psql script that marks each statement's
# output with "@@ LINE", and writes what is stated to the file `want` under the same marks.

BEGIN { printf "" > want }

/^```sql$/ { in_sql = 1; other = 0; next }
/^```/     { if (in_sql) { state(); run(); leave() } in_sql = 0; next }
!in_sql    { next }

/^-- in another session/ { state(); other = 1; next }
/^-- in this one/        { state(); leave(); next }
/^-- => /                { state(); stated = substr($0, 7); next }
/^--  /                  { if (stated != "") { sub(/^-- +/, ""); stated = stated " " $0 } next }
/^--/ || /^$/            { state(); next }
{
    state()
    if (statement == "") line = NR
    statement = statement (statement == "" ? "" : "\n") $0
    if (/;$/ || /\\gset$/) run()
}

# Writes down a row of the result that is stated.
function state() {
    if (stated == "") return
    gsub(/, …}/, ", \"…\": 0}", stated)
    print stated >> want
    stated = ""
}

function run() {
    if (statement == "") return
    if (other) statement = elsewhere(statement)
    print "@@ " line >> want
    printf "\\echo '@@ %d'\n%s\n", line, statement
    print "\\if :ERROR\n\\echo ERROR :SQLSTATE: :LAST_ERROR_MESSAGE\n\\endif"
    if (statement ~ /^CREATE EXTENSION/) print "\\i tests/docs/await_workers.sql"
    statement = ""
}

# Another session's transaction: it is prepared, and so keeps its locks while this one goes on.
function elsewhere(sql) {
    if (sql == "BEGIN;") begun = 1
    if (sql == "ROLLBACK;" || sql == "COMMIT;") sub(/;$/, " PREPARED 'elsewhere';", sql)
    return sql
}

function leave() {
    if (begun) print "PREPARE TRANSACTION 'elsewhere';"
    begun = other = 0
}
