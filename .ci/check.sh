#!/bin/sh
# The fast checks, each named before it runs; ends at the first that fails.
set -eu
cd "$(dirname "$0")/.."
PATH="$PWD/.venv/bin:$PATH"

step() {
    printf -- '-- %s\n' "$*"
    "$@"
}
step ruff check --quiet
step ruff format --check --quiet
step mypy
step lint-imports --no-logo
step .ci/check_protos.sh
