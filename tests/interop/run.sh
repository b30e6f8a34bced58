#!/bin/sh
# Shows that cacheio and Python's aiocache read and write each other's entries.
#
# Needs python3 with venv, PyPI, memcached and redis-server; the test starts the servers itself.
#
#     tests/interop/run.sh
set -eu
here=$(cd "$(dirname "$0")" && pwd)
cd "$here/../.."
venv="${CARGO_TARGET_DIR:-target}/interop"
mkdir -p "$venv"
venv=$(cd "$venv" && pwd)
[ -x "$venv/bin/python" ] || python3 -m venv "$venv"
"$venv/bin/pip" install --quiet --disable-pip-version-check --requirement "$here/requirements.txt"
PYTHON="$venv/bin/python" cargo test -p cacheio-tests --test interop -- --ignored "$@"
