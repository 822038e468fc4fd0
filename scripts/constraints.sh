#!/bin/sh
# Writes constraints.txt and constraints-neuralprophet.txt: the newest version of every dependency, as installed into
# environments made for it.
# PyTorch is left out because its build is the user's choice, and with it what only some of its builds need.
set -eu
cd "$(dirname "$0")/.."

work="$(mktemp -d)"
trap 'rm -rf "$work"' EXIT

# Write to file $2 what the set $1 of setup.sh installs.
pin() {
    VENV="$work/$1" CONSTRAINTS=/dev/null sh scripts/setup.sh "$1"
    {
        echo "# The versions that were tested. scripts/setup.sh and the Dockerfile install these."
        echo "# Generated: \`make constraints\` puts the newest here; then run \`make check test\`."
        "$work/$1/bin/python" -m pip freeze --exclude-editable |
            grep -Ev '^(torch==|torch @|triton|nvidia-|cuda-|pip==|setuptools|wheel)' |
            LC_ALL=C sort -f
    } >"$work/$2"
}

pin dev constraints.txt
pin neuralprophet constraints-neuralprophet.txt
cp "$work/constraints.txt" "$work/constraints-neuralprophet.txt" .
