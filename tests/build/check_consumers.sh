#!/usr/bin/env bash
# Builds and runs tests/build/consumer twice: with the library as a subdirectory and without OpenMP, and with the
# library installed and found by find_package.
set -euo pipefail
cd "$(dirname "$0")/../.."
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

echo "consumer: add_subdirectory, one thread"
cmake -S tests/build/consumer -B "$work/directory" -DESPALIER_DIRECTORY="$PWD" -DESPALIER_WITH_OPENMP=OFF >"$work/log" ||
    { cat "$work/log"; exit 1; }
cmake --build "$work/directory"
"$work/directory/consumer"

echo "consumer: find_package"
cmake -S . -B "$work/build" -DESPALIER_BUILD_TESTS=OFF \
    -DESPALIER_BUILD_EXAMPLES=OFF -DESPALIER_BUILD_BENCHMARKS=OFF >"$work/log" || { cat "$work/log"; exit 1; }
cmake --install "$work/build" --prefix "$work/installed" >"$work/log" || { cat "$work/log"; exit 1; }
cmake -S tests/build/consumer -B "$work/package" -DCMAKE_PREFIX_PATH="$work/installed" >"$work/log" ||
    { cat "$work/log"; exit 1; }
cmake --build "$work/package"
"$work/package/consumer"
