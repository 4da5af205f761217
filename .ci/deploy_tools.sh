#!/bin/sh
# Installs into .tools/deploy what tests of deploy/ check with: Envoy, Helm's library and a reader of compose files from
# locked wheels, promtool from Debian's package where apt-get is there. Best effort, bounded in time: ends with 0, and what
# is missing afterwards shows as skipped tests.
set -u
cd "$(dirname "$0")/.."
tools=$PWD/.tools/deploy
lock=tests/deploy/tools.txt

if ! cmp -s "$lock" "$tools/installed.txt"; then
    echo "Installing tools for tests of deploy/"
    "${PYTHON:-python3}" -m venv --clear "$tools" &&
        timeout 300 "$tools/bin/python" -m pip install --quiet --disable-pip-version-check --require-hashes \
            --only-binary=:all: --requirement "$lock" </dev/null &&
        cp "$lock" "$tools/installed.txt" ||
        echo "could not install them; tests that need them are skipped"
fi

if ! command -v promtool >/dev/null 2>&1 && [ ! -x "$tools/bin/promtool" ] && command -v apt-get >/dev/null 2>&1; then
    echo "Installing promtool"
    # Unpacked, not installed: Debian's package would start a server.
    folder=$(mktemp -d)
    chmod 0755 "$folder"
    (
        cd "$folder" || exit
        timeout 60 apt-get -qq download prometheus </dev/null >/dev/null 2>&1 || {
            timeout 120 apt-get -qq update </dev/null >/dev/null 2>&1
            timeout 120 apt-get -qq download prometheus </dev/null >/dev/null 2>&1
        }
        dpkg -x prometheus_*.deb . 2>/dev/null && mkdir -p "$tools/bin" && cp usr/bin/promtool "$tools/bin/promtool"
    ) || echo "could not install promtool; tests that need it are skipped"
    rm -rf "$folder"
fi
exit 0
