#!/bin/sh
# Runs every test and ends with one summary that names what was skipped, and why.
set -u
cd "$(dirname "$0")/.."
mkdir -p target
log=target/test.log
HBC_SKIP_LIST=$PWD/target/skipped.txt
export HBC_SKIP_LIST
rm -f "$HBC_SKIP_LIST"
: >"$HBC_SKIP_LIST"
began=$(date +%s)

echo 'building the tests'
cargo test --locked --workspace --no-run || exit 1

# The store tests run on SQLite always, and on a private PostgreSQL that ends with this script.
pipes=$(mktemp -d)
trap 'rm -rf "$pipes"' EXIT
mkfifo "$pipes/input" "$pipes/said"
HBC_TEST_STATEMENTS=$PWD/target/statements.log
export HBC_TEST_STATEMENTS
sh shared/testkit/postgres.sh <"$pipes/input" >"$pipes/said" &
exec 9>"$pipes/input"
read -r HBC_TEST_POSTGRES_URL <"$pipes/said" || exit 1
if [ "$HBC_TEST_POSTGRES_URL" = absent ]; then
    unset HBC_TEST_POSTGRES_URL
    reason='the PostgreSQL half of every store test: PostgreSQL is not installed (make deps installs it where it may)'
    [ -z "${HBC_NO_SKIP:-}" ] || { echo "may not be skipped: $reason"; exit 1; }
    missing=$reason
    unset HBC_TEST_STATEMENTS
else
    export HBC_TEST_POSTGRES_URL
fi

echo 'running the tests'
{
    cargo test --locked --workspace --no-fail-fast 2>&1
    code=$?
    # Last, when PostgreSQL's log has what every suite did.
    if [ -n "${HBC_TEST_STATEMENTS:-}" ]; then
        cargo test --locked --workspace --test statements -- --ignored 2>&1 || code=$?
    fi
    echo "exit code $code"
} 9>&- | tee "$log" | grep --line-buffered -E '^(test .*FAILED|test .* has been running|test result|failures:|thread .* panicked|SKIPPED|     Running|error)' || true

sum() { awk -v what="$1" '/^test result:/ { for (i = 1; i < NF; i++) if ($(i + 1) ~ "^" what) n += $i } END { print n + 0 }' "$log"; }
passed=$(sum passed); failed=$(sum failed); ignored=$(sum ignored)
skipped=$(sort -u "$HBC_SKIP_LIST" | grep -c .)
echo
echo "== Summary after $(( $(date +%s) - began )) s (everything: $log)"
if [ "$skipped" -gt 0 ] || [ -n "${missing:-}" ]; then
    echo 'skipped:'
    [ -z "${missing:-}" ] || echo "  $missing"
    sort -u "$HBC_SKIP_LIST" | sed 's/^/  /'
fi
if [ "$ignored" -gt 0 ]; then
    echo 'run only when asked for by name:'
    grep -E '^test .* \.\.\. ignored' "$log" | sed 's/^test /  /'
fi
if [ "$failed" -gt 0 ]; then
    echo 'failed:'
    grep -E '^test .* \.\.\. FAILED' "$log" | sed 's/^test /  /'
fi
# A skipped test returned early and was counted as passed by the test runner.
echo "$(( passed - skipped )) passed, $failed failed, $skipped skipped"
[ "$failed" = 0 ] && grep -q '^exit code 0$' "$log"
