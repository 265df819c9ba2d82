#!/bin/sh
# Installs or builds what HBC needs beside Rust, and says what it does. Where it cannot, it says what to do by hand.
#
#   Kubo (ipfs)   the IPFS daemon: `ipfs` 0.43 or newer on PATH, else built from the pinned Go module in deploy/kubo
#                 into deploy/kubo/bin (Go's usual caches are used)
#   PostgreSQL    only for the store tests: /usr/lib/postgresql or PATH, else `apt-get install postgresql` as root
#   curl, jq      only for the test of docs/TUTORIAL.md: PATH, else by `apt-get install` as root
#   C compiler    for SQLite and the TLS library that Rust builds
set -u
cd "$(dirname "$0")/.."
missing=0

say() { printf '%s\n' "deps: $*"; }
fail() { say "$*"; missing=1; }

recent_ipfs() {
    version=$("$1" version --number 2>/dev/null) || return 1
    major=${version%%.*}; rest=${version#*.}; minor=${rest%%.*}
    [ "$major" -gt 0 ] 2>/dev/null || [ "$minor" -ge 43 ] 2>/dev/null
}

if command -v cc >/dev/null 2>&1; then
    say "C compiler: $(command -v cc)"
else
    fail "no C compiler: install gcc or clang (Debian: apt-get install build-essential)"
fi

if recent_ipfs ipfs; then
    say "Kubo: $(command -v ipfs) ($(ipfs version --number))"
elif recent_ipfs deploy/kubo/bin/ipfs; then
    say "Kubo: deploy/kubo/bin/ipfs ($(deploy/kubo/bin/ipfs version --number)), built before"
elif command -v go >/dev/null 2>&1; then
    say "Kubo: building github.com/ipfs/kubo/cmd/ipfs as pinned in deploy/kubo/go.mod (two to six minutes)"
    if (cd deploy/kubo && go build -trimpath -ldflags='-s -w' -o bin/ipfs github.com/ipfs/kubo/cmd/ipfs) \
        && recent_ipfs deploy/kubo/bin/ipfs; then
        say "Kubo: built deploy/kubo/bin/ipfs ($(deploy/kubo/bin/ipfs version --number))"
    else
        fail "Kubo could not be built. Put an 'ipfs' of 0.43 or newer on PATH: https://docs.ipfs.tech/install/command-line/"
    fi
else
    fail "no Kubo and no Go to build it with. Install either: Go 1.26 or newer (https://go.dev/dl/), or 'ipfs' 0.43 or
      newer on PATH (https://docs.ipfs.tech/install/command-line/)"
fi

has_postgres() {
    for folder in /usr/lib/postgresql/*/bin; do
        [ -x "$folder/initdb" ] && return 0
    done
    command -v initdb >/dev/null 2>&1 && command -v postgres >/dev/null 2>&1 && command -v createdb >/dev/null 2>&1
}

if has_postgres; then
    say "PostgreSQL: found (the tests start a private server of their own)"
elif [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null 2>&1; then
    say "PostgreSQL: installing the packages postgresql and postgresql-client by apt-get (system-wide)"
    # The packages would start a server of their own, which nobody here needs.
    [ -e /usr/sbin/policy-rc.d ] || { printf '#!/bin/sh\nexit 101\n' >/usr/sbin/policy-rc.d; chmod +x /usr/sbin/policy-rc.d; own=1; }
    apt-get update -q >/dev/null 2>&1
    DEBIAN_FRONTEND=noninteractive apt-get install -y -q postgresql postgresql-client >/dev/null 2>&1
    [ "${own:-0}" = 1 ] && rm -f /usr/sbin/policy-rc.d
    has_postgres && say "PostgreSQL: installed" || fail "PostgreSQL could not be installed: apt-get install postgresql"
else
    say "PostgreSQL: not here, and not installable without root; its store tests will be skipped."
    say "            To run them: apt-get install postgresql (or your system's package; only initdb, postgres, createdb)"
fi

wanted=
for program in curl jq; do
    command -v "$program" >/dev/null 2>&1 && say "$program: $(command -v "$program")" || wanted="$wanted $program"
done
if [ -z "$wanted" ]; then
    :
elif [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null 2>&1; then
    say "installing by apt-get (system-wide):$wanted"
    apt-get update -q >/dev/null 2>&1
    # shellcheck disable=SC2086 # one word per program
    DEBIAN_FRONTEND=noninteractive apt-get install -y -q $wanted >/dev/null 2>&1 \
        || say "could not be installed:$wanted; the test of docs/TUTORIAL.md will be skipped"
else
    say "not here, and not installable without root:$wanted; the test of docs/TUTORIAL.md will be skipped"
fi

[ "$missing" = 0 ] || { say "something is missing, see above"; exit 1; }
