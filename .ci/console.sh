#!/bin/sh
# Builds the web console into the server's package; with --check, says whether what is there is what its sources make.
# Without Node, --check says so and passes: the built console is part of the repository, users need no Node.
set -eu
cd "$(dirname "$0")/../web/console"
PATH="$PWD/../../.tools/node/bin:$PATH"
BUILT=../../runengine_server/http/console

if ! command -v npm >/dev/null; then
    [ "${1:-}" = --check ] && echo "console: skipped, no node" && exit 0
    echo "console: building it needs Node 20.19 or newer" >&2
    exit 1
fi
# npm keeps a copy of the lock with what it installed; older than ours, it is of another time.
if ! [ node_modules/.package-lock.json -nt package-lock.json ]; then
    npm ci --no-audit --no-fund --loglevel=error
fi
if [ "${1:-}" != --check ]; then
    exec npm run --silent build
fi
fresh=$(mktemp -d)
trap 'rm -rf "$fresh"' EXIT
npm run --silent check
npx vite build --logLevel error --outDir "$fresh"
# Compressors differ between versions of Node; what they compress does not.
if ! diff -rq --exclude='*.gz' "$fresh" "$BUILT"; then
    echo "console: the built files are not what web/console makes; run make console" >&2
    exit 1
fi
echo "console: built files are fresh"
