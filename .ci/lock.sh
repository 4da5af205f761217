#!/bin/sh
# Writes deploy/locks/*.txt from pyproject.toml: every version and hash that demo, tests and the image install.
# An existing lock is kept where it still fits; LOCK_FLAGS=--upgrade takes the newest of everything.
#   .ci/lock.sh           writes
#   .ci/lock.sh --check   writes nothing; fails where a lock is not what would come out
set -eu
cd "$(dirname "$0")/.."
tools=.tools/lock-venv
locks=deploy/locks
if [ "${1:-}" = --check ]; then
    locks=$(mktemp -d)
    trap 'rm -rf "$locks"' EXIT
    cp deploy/locks/*.txt "$locks"
fi
pin=uv==0.13.9

if [ "$(cat $tools/pin.txt 2>/dev/null || true)" != "$pin" ]; then
    "${PYTHON:-python3}" -m venv --clear $tools
    $tools/bin/python -m pip install --quiet --disable-pip-version-check "$pin"
    echo "$pin" >$tools/pin.txt
fi

# One resolution for every platform and Python that pyproject.toml allows. The test lock comes first and constrains the
# others, so that all three agree on every version and can share one environment. No index is written down: whoever
# installs uses the one his pip is configured with, and the hashes make sure that it is the same file.
compile() {
    name=$1
    lock=$locks/$name.txt
    shift
    # shellcheck disable=SC2086
    $tools/bin/uv pip compile --quiet --system-certs --universal --python-version 3.11 --generate-hashes \
        --no-header --no-emit-index-url --no-emit-find-links --no-annotate ${LOCK_FLAGS:-} \
        --output-file "$lock" pyproject.toml deploy/locks/build.in "$@"
    echo "$name: $(grep -c '==' "$lock") packages"
}
compile test --all-extras
LOCK_FLAGS=
compile demo --extra server --extra embedded --extra campaign --constraint "$locks/test.txt"
compile server --extra server --constraint "$locks/test.txt"
if [ "$locks" != deploy/locks ]; then
    for lock in test demo server; do
        diff -u "deploy/locks/$lock.txt" "$locks/$lock.txt" || { echo "deploy/locks is stale; run: make lock"; exit 1; }
    done
fi
