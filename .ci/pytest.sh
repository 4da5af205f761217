#!/bin/sh
# Runs pytest on those of the named folders of tests/ that exist: .ci/pytest.sh unit property -- -k lease
set -eu
cd "$(dirname "$0")/.."
.ci/environment.sh test
folders=
while [ $# -gt 0 ] && [ "$1" != -- ]; do
    [ ! -d "tests/$1" ] || folders="$folders tests/$1"
    shift
done
[ $# -eq 0 ] || shift
if [ -z "$folders" ]; then
    echo "no such tests yet"
    exit 0
fi
# shellcheck disable=SC2086
exec .venv/bin/python -m pytest $folders "$@"
