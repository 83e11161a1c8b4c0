#!/usr/bin/env bash
# Compiles the first C++ block of README.md and runs it in an empty folder.
set -euo pipefail
cd "$(dirname "$0")/.."
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

awk '/^```cpp/ && !seen { inside = seen = 1; next } /^```/ { inside = 0 } inside' README.md >"$work/readme.cpp"
[[ -s $work/readme.cpp ]] || { echo "check_readme: expected a cpp block in README.md, found none" >&2; exit 1; }
g++ -std=c++20 -O2 -march=native -fopenmp -Wall -Wextra -Iinclude "$work/readme.cpp" -o "$work/readme" -lz
(cd "$work" && ./readme)
