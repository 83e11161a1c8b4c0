#!/usr/bin/env bash
# Everything that can be checked and measured on a machine with an NVIDIA GPU, in under 9 minutes and without a network:
#
#   ./run gpu-bundle                            where there is a network: third-party headers, into build/gpu-bundle
#   tools/gpu_check.sh OUT [BUNDLE]             on the machine with the GPU
#
# It builds the tests, two benchmarks and an example by nvcc for the GPU that is there, runs all tests on it, measures steps
# and convolutions (beside PyTorch, if python3 or $PYTHON has it and safetensors), then runs every kernel once under
# compute-sanitizer, the example's verbs beside the CPU, and a demo. Nothing that fails or takes too long stops the rest. OUT
# gets summary.json, GPU.md, gpu.json and results.tgz, which has a log of each step; all are written anew after every step.
set -uo pipefail
cd "$(dirname "$0")/.."
fail() { echo "gpu_check: $*" >&2; exit 1; }
out=$(mkdir -p "${1:?expected a folder for the results}" && cd "$1" && pwd) || exit 1
bundle=$(cd "${2:-build/gpu-bundle}" && pwd) || fail "expected a bundle: ./run gpu-bundle makes it"
for file in commit include/{doctest/doctest.h,Random123/philox.h,nlohmann/json.hpp,CLI/CLI.hpp,zlib.h,zconf.h} lib/libz.a; do
    [[ -e $bundle/$file ]] || fail "expected $bundle/$file: ./run gpu-bundle makes the bundle anew"
done
PATH=$PATH:/usr/local/cuda/bin
command -v nvcc >/dev/null || fail "expected nvcc on PATH or in /usr/local/cuda/bin"
capability=$(nvidia-smi --query-gpu=compute_cap --format=csv,noheader | head -1 | tr -d .)
[[ $capability ]] || fail "expected a GPU that nvidia-smi knows"
[[ $capability == 90 ]] && capability=90a

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
build=$work/build logs=$work/logs
mkdir "$build" "$logs"
rm -f "$out"/{results.tgz,summary.json,GPU.md,gpu.json}
python=${PYTHON:-python3}
commit=$(git describe --always --dirty 2>/dev/null || cat "$bundle/commit")
jobs=$(nproc)
last=530 # seconds, after which every program has ended
failed=0
parts=()
export ESPALIER_TEST_DEVICE=cuda

limit() { # seconds that a program may take, if so many are left; then the program
    local seconds=$((last - SECONDS))
    ((seconds < $1)) || seconds=$1
    timeout -k 5 $((seconds > 1 ? seconds : 1)) "${@:2}"
}
step() { # name, then a command: its output goes to a log
    local name=$1 start=$SECONDS status=passed
    shift
    "$@" >"$logs/$name.log" 2>&1 || { status=FAILED; failed=$((failed + 1)); }
    printf '%6d s  %s  %s\n' $((SECONDS - start)) "$status" "$name"
    [[ $status == passed ]] || tail -n 20 "$logs/$name.log"
    parts+=("$(printf '"%s": {"status": "%s", "seconds": %d}' "$name" "$status" $((SECONDS - start)))")
    { printf '{\n'; printf '  %s,\n' "${parts[@]}"; printf '  "seconds": %d,\n  "failed": %d\n}\n' $SECONDS $failed; } >"$out/summary.json.new"
    mv "$out/summary.json.new" "$out/summary.json"
    tar czf "$out/results.tgz.new" --exclude='*.safetensors' -C "$logs" . && mv "$out/results.tgz.new" "$out/results.tgz"
    [[ $status == passed ]]
}

flags=(-std=c++20 -O3 -lineinfo "-gencode=arch=compute_$capability,code=sm_$capability" --expt-relaxed-constexpr -x cu
    -DESPALIER_CUDA=1 "-DESPALIER_TEST_DATA=\"$PWD/tests/golden\"" -Xcompiler=-fopenmp,-march=native -Iinclude -Itests -Iexamples "-I$bundle/include"
    '-DESPALIER_COMPILER="nvcc"' "-DESPALIER_FLAGS=\"-O3 sm_$capability\"")
slowest=(tests/{cuda/every_kernel,cuda/training,train/captured_step,ops/conv2d}_test.cpp benchmarks/step.cpp
    examples/support/experiment.cpp benchmarks/kernels.cpp)
tests=$(grep -rlE 'on_device|device_under_test' tests --include='*_test.cpp')

about() {
    echo "$commit"
    nvidia-smi && nvcc --version
}
compile() { # one object a file, in parallel; then what there are objects for
    local status=0 log
    printf '%s\n' "${slowest[@]}" examples/mnist.cpp examples/support/*.cpp benchmarks/peers/onednn.cpp tests/support/main.cpp \
        $tests | awk '!seen[$0]++' | limit 240 xargs -P "$jobs" -I{} sh -c '
            object=$0/$(echo {} | tr / _).o
            case {} in tests/*) set -- "$@" -include doctest/doctest.h ;; esac
            nvcc "$@" -c {} -o "$object.part" >"$object.log" 2>&1 && mv "$object.part" "$object"' "$build" "${flags[@]}" || status=1
    link_program cuda_test "$build"/tests_*.o # tests register themselves: those of a file that failed are not in it
    link_program step "$build/benchmarks_step.cpp.o"
    link_program kernels "$build"/benchmarks_{kernels,peers_onednn}.cpp.o
    link_program mnist "$build"/examples_*.o
    for log in "$build"/*.log; do
        [[ -e ${log%.log} ]] || { echo "FAILED ${log##*/}"; grep -m 5 -iE 'error|fatal' "$log" || tail -n 5 "$log"; }
    done
    cp "$build"/*.log "$logs/compile"
    return $status
}
link_program() { # name, objects
    limit 30 nvcc "${@:2}" -o "$build/$1" -L"$bundle/lib" -lz -Xcompiler=-fopenmp || status=1
}
all_tests() { limit 90 "$build/cuda_test" --duration=true; }
tests_apart() { # file by file, with a wait after each kernel: one that fails lets all that follow in its program fail
    echo "$tests" | ESPALIER_SYNC_LAUNCHES=1 limit 60 xargs -P 4 -I{} sh -c '
        log=$0/$(echo {} | tr / _).log
        timeout --foreground -k 5 20 "$1" --source-file="*{}" >"$log" 2>&1 || { echo "FAILED {}"; tail -n 12 "$log"; false; }' \
        "$logs/apart" "$build/cuda_test"
}
benchmarks() { # until 370 s have passed; a row that is under way then has some more
    limit $((420 - SECONDS)) "$python" benchmarks/gpu.py --programs "$build" --out "$out" --work "$logs/benchmarks" \
        --python "$python" --commit "$commit" --limit $((370 - SECONDS)) --rounds 3 --seconds 0.2 \
        --filter '^step/(resnet56|vgg16)/|^conv/|^flow/|^step/resnet56\+flow/' --variants '^eager|^reduce-overhead|replayed'
}
sanitizers() { # every kernel once under each tool, side by side
    local tool status=0
    local -A process
    for tool in memcheck racecheck initcheck synccheck; do
        ESPALIER_NO_CACHE=1 limit 80 compute-sanitizer --tool $tool --error-exitcode 9 "$build/cuda_test" \
            --test-case='every *on the device*<float>,conv2d: tensor cores*,matmul: tensor cores*,mma:*' \
            >"$logs/sanitizers/$tool.log" 2>&1 &
        process[$tool]=$!
    done
    for tool in "${!process[@]}"; do # a filter that matches nothing passes, too
        wait "${process[$tool]}" && grep -q 'test cases: *[1-9]' "$logs/sanitizers/$tool.log" && continue
        echo "FAILED $tool"
        tail -n 8 "$logs/sanitizers/$tool.log"
        status=1
    done
    return $status
}
example() { limit 60 "$python" tools/check_device.py "$build/mnist" 30; }
demo() { # a run of some hundred steps
    "$python" tools/write_mnist.py "$work/set" 4096 1000 &&
        limit 60 "$build/mnist" demo --device cuda --data "$work/set" --model resnet20 --out "$logs/mnist"
}

mkdir "$logs"/{compile,apart,sanitizers}
step about about
step compile compile
step tests all_tests
tested=$?
step benchmarks benchmarks
((tested == 0)) || step tests_apart tests_apart
step sanitizers sanitizers
step example example
step demo demo
[[ ! -e $out/GPU.md ]] || cat "$out/GPU.md"
printf '%d s in all, %d failed; results are in %s\n' $SECONDS $failed "$out"
exit $((failed > 0))
