#!/usr/bin/env bash
# Builds and runs tests/build/consumer, headers only and with espalier::compiled, in the ways of getting the library:
# add_subdirectory (on one thread), FetchContent from a git repository, and find_package of an installation that was
# moved. Then asks for what an installation can't give, and expects to be told so.
set -euo pipefail
cd "$(dirname "$0")/../.."
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
export CMAKE_GENERATOR=Ninja

fail() { printf 'check_consumers: %s\n' "$*" >&2; exit 1; }

quietly() { # a command; its output only if it fails
    "$@" >"$work/log" 2>&1 || { cat "$work/log"; fail "$* failed"; }
}

# -O0: what is checked is that it builds. NDEBUG: asserts would put the path of their file into an archive.
configure() { cmake -DCMAKE_BUILD_TYPE=None "$@"; }
flags=-DCMAKE_CXX_FLAGS="-O0 -DNDEBUG"

consumer() { # folder of the build, its programs, then arguments of CMake
    local build=$work/$1 program
    quietly configure -S tests/build/consumer -B "$build" "$flags" "${@:3}"
    quietly cmake --build "$build" --target $2
    for program in $2; do
        (cd "$build" && "./$program") || fail "$1: $program exited with $?"
    done
    echo "consumer: $1"
}

refused() { # what is refused, the text that says why, then a command
    if "${@:3}" >"$work/log" 2>&1; then fail "expected $1 to be refused"; fi
    tr -s ' \n' ' ' <"$work/log" | grep -qF "$2" || { cat "$work/log"; fail "expected '$2' about $1"; }
    echo "refused: $1"
}

install_to() { # prefix, then arguments of CMake
    quietly configure -S . -B "$work/build" "$flags" -DESPALIER_NATIVE=OFF -DESPALIER_BUILD_TESTS=OFF \
        -DESPALIER_BUILD_EXAMPLES=OFF -DESPALIER_BUILD_BENCHMARKS=OFF "${@:2}"
    quietly cmake --build "$work/build"
    quietly cmake --install "$work/build" --prefix "$1"
    rm -r "$work/build"
}

consumer add_subdirectory "consumer consumer_compiled" -DWAY=add_subdirectory -DESPALIER_DIRECTORY="$PWD" -DESPALIER_WITH_OPENMP=OFF

mkdir "$work/repository"
cp -r CMakeLists.txt LICENSE cmake include "$work/repository"
git() { command git -C "$work/repository" -c user.name=consumer -c user.email=consumer@localhost "$@"; }
git init -q && git add . && git commit -q -m "The working tree"
# What FetchContent fetches is added as a subdirectory; its compiled library was just built.
consumer FetchContent consumer -DWAY=FetchContent -DESPALIER_REPOSITORY="file://$work/repository" \
    -DESPALIER_COMMIT="$(git rev-parse HEAD)"

install_to "$work/installed" -DESPALIER_INSTALL_COMPILED=ON
mv "$work/installed" "$work/moved"
! grep -rlF -e "$work" -e "$PWD" "$work/moved" || fail "expected no path of the build in these files"
consumer find_package "consumer consumer_compiled" -DCMAKE_PREFIX_PATH="$work/moved"

package=(configure -S tests/build/consumer -B "$work/refused" --fresh -DCMAKE_PREFIX_PATH="$work/moved")
refused "a version that is too new" "version: 0.1" "${package[@]}" -DWANTED=0.2
refused "a missing dependency" "expected ZLIB, found none" "${package[@]}" -DCMAKE_DISABLE_FIND_PACKAGE_ZLIB=ON
quietly "${package[@]}" -DCMAKE_CXX_FLAGS=-mavx512f
refused "another instruction set than the archive's" "built with another -march" \
    cmake --build "$work/refused" --target consumer_compiled
install_to "$work/headers"
refused "espalier::compiled of an installation without it" "this installation is headers only" \
    configure -S tests/build/consumer -B "$work/refused" --fresh -DCMAKE_PREFIX_PATH="$work/headers"
