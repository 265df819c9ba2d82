#!/bin/sh
# Installs or builds what HBC needs beside Rust, and says what it does. Where it cannot, it says what to do by hand.
#
#   Kubo (ipfs)   the IPFS daemon: `ipfs` 0.43 or newer on PATH, else built from the pinned Go module in deploy/kubo
#                 into deploy/kubo/bin (Go's usual caches are used)
#   PostgreSQL    only for the store tests: /usr/lib/postgresql or PATH, else `apt-get install postgresql` as root
#   curl, jq      only for the test of docs/TUTORIAL.md: PATH, else by `apt-get install` as root
#   Chromium      only for the test of passkeys: /usr/bin/chromium, else Debian's package by `apt-get install` as root
#   API tools     only for tests: validators of the API descriptions and generators of clients, from PyPI and npm, where
#                 Python 3.11 and Node.js 20 are there; into target/clients
#   FHIR clients  only for tests: stock ones from PyPI and npm, among the API tools; HAPI's Java client and validator from
#                 Maven Central into target/clients/java, where a JDK 17 and Maven are there (Maven's usual cache is used)
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

if [ -x /usr/bin/chromium ]; then
    say "Chromium: /usr/bin/chromium"
elif [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null 2>&1; then
    say "Chromium: installing the package chromium by apt-get (system-wide)"
    apt-get update -q >/dev/null 2>&1
    DEBIAN_FRONTEND=noninteractive apt-get install -y -q --no-install-recommends chromium >/dev/null 2>&1
    [ -x /usr/bin/chromium ] && say "Chromium: installed" \
        || say "Chromium: it could not be installed; the test of passkeys in a browser will be skipped"
else
    say "Chromium: not here, and not installable without root; the test of passkeys in a browser will be skipped"
fi

# Tools for tests alone: they validate the API descriptions and make clients from them. Everything is pinned, by hash in
# requirements.txt and package-lock.json, and stays under target/.
clients=target/clients
pinned=$(cat tests/clients/requirements.txt tests/clients/package-lock.json | cksum)

python_tools() {
    rm -rf "$clients/venv"
    "$1" -m venv "$clients/venv" \
        && "$clients/venv/bin/python" -m pip install --quiet --disable-pip-version-check --no-compile --no-deps \
            --require-hashes -r tests/clients/requirements.txt
}

node_tools() {
    cp tests/clients/package.json tests/clients/package-lock.json "$clients/" \
        && (cd "$clients" && npm ci --silent --ignore-scripts --no-audit --no-fund --no-update-notifier)
}

new_enough() { "$@" >/dev/null 2>&1; }

if [ "$(cat "$clients/installed" 2>/dev/null)" = "$pinned" ]; then
    say "API tools: in $clients, installed before"
else
    mkdir -p "$clients"
    rm -f "$clients/installed"
    whole=1
    if new_enough python3 -c 'import sys, venv; sys.exit(sys.version_info < (3, 11))'; then
        say "API tools: installing openapi-spec-validator, openapi-python-client and FHIR clients into $clients/venv"
        python_tools python3 || { whole=0; say "API tools: they could not be installed; their tests will be skipped"; }
    else
        whole=0
        say "API tools: no Python 3.11 or newer with venv; tests with Python clients will be skipped"
    fi
    if new_enough npm --version && new_enough node -e 'process.exit(parseInt(process.versions.node) < 20 ? 1 : 0)'; then
        say "API tools: installing Redocly, openapi-typescript, playwright-core and FHIR clients into $clients/node_modules"
        node_tools || { whole=0; say "API tools: they could not be installed; their tests will be skipped"; }
    else
        whole=0
        say "API tools: no Node.js 20 or newer with npm; tests with TypeScript clients will be skipped"
    fi
    [ "$whole" = 0 ] || printf '%s\n' "$pinned" >"$clients/installed"
fi

# HAPI, likewise: what Maven copied is compared with the hashes, file by file, and no file may be there beside them.
java=$clients/java
hashes=$PWD/tests/clients/java/jars.sha256
hapi=$(cat tests/clients/java/pom.xml tests/clients/java/jars.sha256 2>/dev/null | cksum)

java_libraries() {
    rm -rf "$java" && mkdir -p "$java/lib" || return 1
    mvn --batch-mode --quiet --file tests/clients/java/pom.xml dependency:copy-dependencies -DincludeScope=runtime \
        -DoutputDirectory="$PWD/$java/lib" >"$java/log" 2>&1 || { tail -n 5 "$java/log"; return 1; }
    (cd "$java/lib" && LC_ALL=C && export LC_ALL && sha256sum -- *.jar) >"$java/jars.sha256" || return 1
    [ -e "$hashes" ] || { cp "$java/jars.sha256" "$hashes"; say "FHIR clients: wrote tests/clients/java/jars.sha256 anew"; }
    cmp -s "$hashes" "$java/jars.sha256" || { say "FHIR clients: Maven brought other files than are pinned"; return 1; }
}

if [ "$(cat "$java/installed" 2>/dev/null)" = "$hapi" ]; then
    say "FHIR clients: HAPI's Java libraries in $java, installed before"
elif ! new_enough javac --release 17 --version; then
    say "FHIR clients: no JDK 17 or newer; the tests with HAPI's client and validator will be skipped"
elif ! new_enough mvn --version; then
    say "FHIR clients: no Maven; the tests with HAPI's client and validator will be skipped"
else
    say "FHIR clients: fetching HAPI's Java client and validator by Maven into $java"
    if java_libraries; then
        cat tests/clients/java/pom.xml "$hashes" | cksum >"$java/installed"
        say "FHIR clients: fetched $(grep -c . "$hashes") libraries, as pinned"
    else
        say "FHIR clients: they could not be fetched; the tests with HAPI's client and validator will be skipped"
    fi
fi

[ "$missing" = 0 ] || { say "something is missing, see above"; exit 1; }
