#!/bin/sh
# Formatting, lint, types and import contracts: what every change must pass before its tests run.
set -eu
cd "$(dirname "$0")/.."
bin=.venv/bin
echo "==> ruff"
"$bin/ruff" format --check --quiet .
"$bin/ruff" check --quiet .
echo "==> mypy"
"$bin/mypy" --no-error-summary
echo "==> imports"
"$bin/lint-imports" --no-cache > /tmp/drakit-imports.$$ 2>&1 || { cat /tmp/drakit-imports.$$; rm -f /tmp/drakit-imports.$$; exit 1; }
rm -f /tmp/drakit-imports.$$
