#!/bin/sh
# Installs what browser tests need, as far as this machine lets it: Chromium and Node by apt-get where they are missing
# (as root only), then the npm packages of every page that has a lock. Best effort, bounded in time: ends with 0, and
# what is missing afterwards shows as skipped tests.
set -u
cd "$(dirname "$0")/.."

has() {
    command -v "$1" >/dev/null 2>&1
}

missing=
has chromium || has chromium-browser || has google-chrome || missing=chromium
has npm || missing="$missing nodejs npm"
if [ -n "$missing" ] && [ "$(id -u)" = 0 ] && has apt-get; then
    echo "Installing $missing"
    export DEBIAN_FRONTEND=noninteractive
    timeout 120 apt-get -qq update </dev/null >/dev/null 2>&1
    # shellcheck disable=SC2086
    timeout 600 apt-get -qq install --yes --no-install-recommends $missing </dev/null >/dev/null 2>&1 ||
        echo "could not install$missing; tests that need it are skipped"
fi

if has npm; then
    for lock in web/*/package-lock.json; do
        [ -f "$lock" ] || continue
        page=$(dirname "$lock")
        # npm keeps a copy of the lock with what it installed; older than ours, it is of another time.
        [ "$page/node_modules/.package-lock.json" -nt "$lock" ] && continue
        echo "Installing the packages of $page"
        (cd "$page" && timeout 300 npm ci --no-audit --no-fund --loglevel=error </dev/null) ||
            echo "could not install the packages of $page; tests that need them are skipped"
    done
fi
exit 0
