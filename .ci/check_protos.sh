#!/bin/sh
# Checks the wire contract: lint, format, build, no breaking change since the last tag, what is generated is fresh.
set -eu
cd "$(dirname "$0")/.."
PATH="$PWD/.venv/bin:$PATH"

buf lint
buf format --diff --exit-code
buf build

# The tag's files are compared from a copy, so that this works in worktrees and shallow copies too.
tag=$(git describe --tags --abbrev=0 2>/dev/null || true)
if [ -z "$tag" ]; then
    echo "buf breaking: no tag yet, nothing to compare with"
elif ! git cat-file -e "$tag:buf.yaml" 2>/dev/null; then
    echo "buf breaking: $tag has no protos, nothing to compare with"
else
    released=$(mktemp -d)
    trap 'rm -rf "$released"' EXIT
    git archive "$tag" buf.yaml protos | tar -x -C "$released"
    buf breaking --against "$released"
    echo "buf breaking: compatible with $tag"
fi

python .ci/generate_protos.py --check
python .ci/api_reference.py --check
