#!/usr/bin/env bash
# Everything that can be checked and measured on a machine with an NVIDIA GPU, in under 9 minutes and without a network:
#
#   ./run gpu-bundle                            where there is a network: third-party headers, into build/gpu-bundle
#   tools/gpu_check.sh OUT [BUNDLE]             on the machine with the GPU; OUT gets logs, tables and summary.json
#
# It builds the tests, two benchmarks and an example by nvcc for the GPU that is there, runs all tests on it, then every
# kernel once under compute-sanitizer, trains small networks, by the example on a set that it draws, and measures steps and
# convolutions beside PyTorch, if python3 (or $PYTHON) has it.
set -uo pipefail
cd "$(dirname "$0")/.."
out=$(mkdir -p "${1:?expected a folder for the results}" && cd "$1" && pwd)
bundle=$(cd "${2:-build/gpu-bundle}" && pwd) || { echo "gpu_check: expected a bundle: ./run gpu-bundle makes it" >&2; exit 1; }
build=$(mktemp -d)
jobs=$(nproc)
failed=0
printf '{\n' >"$out/summary.json"

step() { # name, then a command: its output goes to OUT/name.log
    local name=$1 start=$SECONDS status=passed
    shift
    "$@" >"$out/$name.log" 2>&1 || { status=FAILED; failed=$((failed + 1)); }
    printf '%6d s  %s  %s\n' $((SECONDS - start)) "$status" "$name"
    printf '  "%s": {"status": "%s", "seconds": %d},\n' "$name" "$status" $((SECONDS - start)) >>"$out/summary.json"
    [[ $status == passed ]] || tail -n 20 "$out/$name.log"
}

capability=$(nvidia-smi --query-gpu=compute_cap --format=csv,noheader | head -1 | tr -d .) || exit 1
[[ $capability == 90 ]] && capability=90a
flags=(-std=c++20 -O3 "-gencode=arch=compute_$capability,code=sm_$capability" --expt-relaxed-constexpr -x cu
    -DESPALIER_CUDA=1 "-DESPALIER_TEST_DATA=\"$PWD/tests/golden\"" -Xcompiler=-fopenmp,-march=native -Iinclude -Itests -Iexamples "-I$bundle/include"
    '-DESPALIER_COMPILER="nvcc"' "-DESPALIER_FLAGS=\"-O3 sm_$capability\"")
programs=(benchmarks/step.cpp benchmarks/kernels.cpp benchmarks/peers/onednn.cpp examples/mnist.cpp examples/support/*.cpp)

about() {
    nvidia-smi
    nvcc --version
    git log -1 --format=%h 2>/dev/null || true
}
compile() { # one object a file, in parallel; the slowest first
    local sources
    sources=$(grep -rlE 'on_device|device_under_test' tests --include='*_test.cpp')
    printf '%s\n' "${programs[@]}" tests/support/main.cpp $sources | xargs -P "$jobs" -I{} sh -c '
        object=$0/$(echo {} | tr / _).o; shift
        case {} in tests/*) set -- "$@" -include doctest/doctest.h ;; esac
        nvcc "$@" -c {} -o "$object"' \
        "$build" -- "${flags[@]}" || return 1
    nvcc "$build"/tests_*.o -o "$build/cuda_test" -L"$bundle/lib" -lz -Xcompiler=-fopenmp &&
        nvcc "$build/benchmarks_step.cpp.o" -o "$build/step" -L"$bundle/lib" -lz -Xcompiler=-fopenmp &&
        nvcc "$build"/benchmarks_{kernels,peers_onednn}.cpp.o -o "$build/kernels" -L"$bundle/lib" -lz -Xcompiler=-fopenmp &&
        nvcc "$build"/examples_*.o -o "$build/mnist" -L"$bundle/lib" -lz -Xcompiler=-fopenmp
}
tests() { ESPALIER_TEST_DEVICE=cuda "$build/cuda_test"; }
sanitize() { # each tool on every kernel once
    local tool
    for tool in memcheck racecheck initcheck synccheck; do
        ESPALIER_TEST_DEVICE=cuda ESPALIER_NO_CACHE=1 timeout 60 compute-sanitizer --tool "$tool" --error-exitcode 9 \
            "$build/cuda_test" --test-case='every op*<float>' || return 1
    done
}
train() { ESPALIER_TEST_DEVICE=cuda "$build/cuda_test" --test-case='a network on the device*' --duration=true; }
example() { # every verb as on the CPU; then a run of some hundred steps
    timeout 60 "${PYTHON:-python3}" tools/check_device.py "$build/mnist" &&
        "${PYTHON:-python3}" tools/write_mnist.py "$build/set" 4096 1000 &&
        timeout 60 "$build/mnist" demo --device cuda --data "$build/set" --model resnet20 --out "$out/mnist"
}
bench() {
    "${PYTHON:-python3}" benchmarks/gpu.py --programs "$build" --out "$out" --python "${PYTHON:-python3}" \
        --filter 'step/(resnet56|vgg16)/|^conv/' --variants 'eager|reduce' --limit $((400 - SECONDS)) --rounds 5 --seconds 0.3
}

step about about
step compile compile
step tests tests
step sanitizer sanitize
step training train
step example example
step benchmarks bench
printf '  "failed": %d\n}\n' $failed >>"$out/summary.json"
rm -rf "$build"
printf '%d s in all, %d failed; results are in %s\n' $SECONDS $failed "$out"
exit $((failed > 0))
