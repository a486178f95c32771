#!/usr/bin/env bash
# Builds pglido, and runs `make part`, on each supported Python of this machine but the one given ("3.11", whose tests ran).
# A Python counts that runs, and has its venv module and its headers. They are built one after the other, for the tree
# is the same and a build uses all processors; then all parts run at the same time, and each tells all at its end.
set -euo pipefail
cd "$(dirname "$0")/.."

usable='import ensurepip, os, sys, sysconfig, venv
sys.exit("%d.%d" % sys.version_info[:2] != sys.argv[1] or not os.path.exists(sysconfig.get_path("include") + "/Python.h"))'

export PGLIDO_OPTIMIZE=-O0
said=$(mktemp -d)
trap 'rm -rf "$said"' EXIT
parts=()
for version in 3.11 3.12 3.13 3.14; do
    [ "$version" != "$1" ] || continue
    for python in "python$version" "${PYENV_ROOT:-$HOME/.pyenv}/versions/$version".*/bin/python3; do
        "$python" -c "$usable" "$version" 2>/dev/null || continue
        echo "Building on $("$python" --version)"
        make --no-print-directory "PYTHON=$python" "VENV=.venv-$version" ".venv-$version/.test" build >"$said/$version" 2>&1 ||
            { cat "$said/$version"; exit 1; }
        parts+=("$version")
        break
    done
done

running=()
for version in "${parts[@]}"; do
    make --no-print-directory "VENV=.venv-$version" JOBS=2 part >"$said/$version" 2>&1 &
    running+=($!)
done
failed=()
for number in "${!parts[@]}"; do
    wait "${running[number]}" || failed+=("${parts[number]}")
    echo "On Python ${parts[number]}"
    cat "$said/${parts[number]}"
done
[ ${#failed[@]} = 0 ] || { echo "Failed on Python ${failed[*]}"; exit 1; }
echo "Tested on ${#parts[@]} other supported Pythons"
