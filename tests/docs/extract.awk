# Turns the ```sql blocks of a Markdown file into a psql script that marks each statement's
# output with "@@ LINE", and writes what is stated to the file `want` under the same marks.

BEGIN { printf "" > want }

/^```sql$/ { in_sql = 1; other = 0; next }
/^```/     { if (in_sql) { state(); run() } in_sql = 0; next }
!in_sql    { next }

/^-- in another session/ { state(); open_other(); other = 1; next }
/^-- in this one/        { state(); other = 0; next }
/^-- => /                { state(); stated = substr($0, 7); next }
/^--  /                  { if (stated != "") { sub(/^-- +/, ""); stated = stated " " $0 } next }
/^--/ || /^$/            { state(); next }
{
    state()
    if (statement == "") line = NR
    statement = statement (statement == "" ? "" : "\n") $0
    if (/;$/) run()
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
    statement = ""
}

function open_other() {
    if (connected++) return
    print "SELECT FROM dblink_connect('other', format('host=%s port=%s dbname=%s user=%s'," \
        " split_part(current_setting('unix_socket_directories'), ',', 1)," \
        " current_setting('port'), current_database(), session_user));"
}

function elsewhere(sql) {
    sub(/;$/, "", sql)
    if (sql ~ /^SELECT/) return "SELECT answer FROM dblink('other', $doc$" sql "$doc$) AS other (answer text);"
    return "SELECT FROM dblink_exec('other', $doc$" sql "$doc$);"
}
