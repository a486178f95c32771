#!/usr/bin/env bash
# Builds pglido and runs `make part` on each supported Python of this machine but the one given ("3.11", whose tests ran).
# A Python counts that runs, and has its venv module and its headers.
set -euo pipefail
cd "$(dirname "$0")/.."

usable='import ensurepip, os, sys, sysconfig, venv
sys.exit("%d.%d" % sys.version_info[:2] != sys.argv[1] or not os.path.exists(sysconfig.get_path("include") + "/Python.h"))'

tested=0
for version in 3.11 3.12 3.13 3.14; do
    [ "$version" != "$1" ] || continue
    for python in "python$version" "${PYENV_ROOT:-$HOME/.pyenv}/versions/$version".*/bin/python3; do
        "$python" -c "$usable" "$version" 2>/dev/null || continue
        echo "On $("$python" --version)"
        make --no-print-directory "PYTHON=$python" "VENV=.venv-$version" part
        tested=$((tested + 1))
        break
    done
done
echo "Tested on $tested other supported Pythons"
