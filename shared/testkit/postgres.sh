#!/bin/sh
# A private PostgreSQL on a free port and a folder of its own. Prints its URL once it takes connections (or `absent`
# where PostgreSQL is not installed), and ends with its folder when standard input closes. `HBC_TEST_STATEMENTS` names a file
# that gets every statement.
set -u

tools=
for folder in $(ls -d /usr/lib/postgresql/*/bin 2>/dev/null | sort -rV) $(printf '%s' "$PATH" | tr ':' ' '); do
    if [ -x "$folder/initdb" ] && [ -x "$folder/postgres" ] && [ -x "$folder/pg_isready" ]; then
        tools=$folder
        break
    fi
done
[ -n "$tools" ] || { echo absent; exit 0; }

cd /
folder=$(mktemp -d "${TMPDIR:-/tmp}/hbc-postgres-XXXXXXXX") || exit 1
as=
if [ "$(id -u)" = 0 ]; then
    # PostgreSQL refuses to run as root.
    user=nobody
    id postgres >/dev/null 2>&1 && user=postgres
    chown "$user" "$folder"
    as="setpriv --reuid=$(id -u "$user") --regid=$(id -g "$user") --clear-groups"
fi
finish() {
    [ -n "${server:-}" ] && kill -INT "$server" 2>/dev/null && wait "$server"
    rm -rf "$folder"
}
trap finish EXIT
trap 'exit 1' INT TERM HUP

$as "$tools/initdb" -D "$folder/data" -U hbc -A trust -N >"$folder.log" 2>&1 || { cat "$folder.log" >&2; exit 1; }
mv "$folder.log" "$folder/log"
log=$folder/log
statements=
if [ -n "${HBC_TEST_STATEMENTS:-}" ]; then
    log=$HBC_TEST_STATEMENTS
    : >"$log"
    statements="-c log_statement=all -c log_parameter_max_length=0"
fi
for attempt in 1 2 3 4 5; do
    port=$(( 20000 + $(od -An -N2 -tu2 /dev/urandom) % 10000 ))
    $as "$tools/postgres" -D "$folder/data" -p "$port" -c listen_addresses=127.0.0.1 -c unix_socket_directories= \
        -c fsync=off -c max_connections=400 -c shared_buffers=32MB -c log_line_prefix='hbc-log ' $statements \
        </dev/null >>"$log" 2>&1 &
    server=$!
    while kill -0 "$server" 2>/dev/null; do
        if "$tools/pg_isready" -q -h 127.0.0.1 -p "$port"; then
            echo "postgres://hbc@127.0.0.1:$port/postgres"
            cat >/dev/null
            exit 0
        fi
        sleep 0.1
    done
done
cat "$log" >&2
exit 1
