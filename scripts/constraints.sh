#!/bin/sh
# Writes constraints.txt: the newest version of every dependency, as installed into an environment made for it.
# PyTorch is left out because its build is the user's choice, and with it what only some of its builds need.
set -eu
cd "$(dirname "$0")/.."

work="$(mktemp -d)"
trap 'rm -rf "$work"' EXIT
VENV="$work/venv" CONSTRAINTS=/dev/null sh scripts/setup.sh dev
{
    echo "# The versions that were tested. scripts/setup.sh and the Dockerfile install these."
    echo "# Generated: \`make constraints\` puts the newest here; then run \`make check test\`."
    "$work/venv/bin/python" -m pip freeze --exclude-editable |
        grep -Ev '^(torch|triton|nvidia-|cuda-|pip|setuptools|wheel)' |
        LC_ALL=C sort -f
} >"$work/constraints.txt"
cp "$work/constraints.txt" constraints.txt
