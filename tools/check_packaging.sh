#!/usr/bin/env bash
# Builds the Conan package with espalier::compiled and the vcpkg port from this tree, without a download, and runs
# tests/build/consumer with each. Conan itself comes from PATH or, into build/, from the Python package index.
set -euo pipefail
cd "$(dirname "$0")/.."
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

quietly() { # a command; its output only if it fails
    "$@" >"$work/log" 2>&1 || { cat "$work/log"; echo "check_packaging: $* failed" >&2; exit 1; }
}

conan=$(command -v conan || echo build/conan/bin/conan)
if [[ ! -x $conan ]]; then
    quietly python3 -m venv build/conan
    quietly build/conan/bin/pip install conan
fi
export CONAN_HOME=$work/conan
quietly "$conan" profile detect
quietly "$conan" create packaging/conan --profile:all packaging/conan/system_dependencies -o "espalier/*:compiled=True" \
    -s build_type=Debug -c tools.cmake.cmaketoolchain:generator=Ninja -c tools.cmake.cmake_layout:test_folder="$work/test"
echo "conan: created and consumed, with espalier::compiled"

quietly cmake -DWORK="$work/vcpkg" -DFEATURES=openmp -P packaging/vcpkg/check.cmake
tail -1 "$work/log"
quietly cmake -S tests/build/consumer -B "$work/consumer" -G Ninja -DCOMPILED=OFF -DCMAKE_PREFIX_PATH="$work/vcpkg/packages"
quietly cmake --build "$work/consumer"
(cd "$work/consumer" && ./consumer)
echo "vcpkg: consumed"
