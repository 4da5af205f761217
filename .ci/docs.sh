#!/bin/sh
# Builds the documentation site into build/site; a broken link or anchor fails. What it needs lives in .tools/docs-venv,
# from a lock with hashes: after a change of .ci/docs/requirements.in,
#   .tools/lock-venv/bin/uv pip compile --universal --python-version 3.11 --generate-hashes --no-header --no-annotate \
#       --no-emit-index-url --output-file .ci/docs/requirements.txt .ci/docs/requirements.in
set -eu
cd "$(dirname "$0")/.."
tools=.tools/docs-venv
lock=.ci/docs/requirements.txt

if ! cmp -s "$lock" $tools/requirements.txt; then
    echo "Making $tools"
    "${PYTHON:-python3}" -m venv --clear $tools
    $tools/bin/python -m pip install --quiet --disable-pip-version-check --require-hashes --only-binary=:all: \
        --requirement "$lock"
    cp "$lock" $tools/requirements.txt
fi
$tools/bin/python .ci/docs/stage.py
# Not --quiet: what is not logged is not counted as a warning either.
NO_MKDOCS_2_WARNING=1 $tools/bin/python -m mkdocs build --strict --config-file .ci/docs/mkdocs.yml
echo "documentation: build/site/index.html"
