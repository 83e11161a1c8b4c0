#!/usr/bin/env bash
# Compiles each header of the library alone, with all warnings as errors: tools/check_headers.sh [COMPILER]
set -euo pipefail
cd "$(dirname "$0")/../include"

export compile="${1:-g++} -std=c++20 -march=native -fopenmp -Wall -Wextra -Wconversion -Wshadow -Wdouble-promotion -Werror
    -fsyntax-only -I. -isystem /usr/include/eigen3"
find espalier -name '*.hpp' | sort | xargs -P "$(nproc)" -I{} sh -c '$compile -include {} -x c++ /dev/null'
echo "check_headers: $(find espalier -name '*.hpp' | wc -l) headers compile alone with ${1:-g++}"
