#!/bin/sh
# Rewrites requirements.lock and requirements-dev.lock from pyproject.toml: exact versions with hashes.
set -eu
cd "$(dirname "$0")/.."
uv=.venv/bin/uv
[ -x "$uv" ] || { .venv/bin/python -m pip install --quiet "uv>=0.9,<1"; }
compile() { "$uv" pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-emit-index-url \
  --no-header --no-annotate pyproject.toml "$@"; }
compile -o requirements.lock
compile --group dev -o requirements-dev.lock
