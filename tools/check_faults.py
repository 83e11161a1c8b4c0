#!/usr/bin/env python3
"""Nothing is lost: a training run is killed a hundred times, half of them while it saves, and resumed each time; a second
writer, a disk that is full and a clock that jumps do no harm. Each time the end must have the bytes of a run that was
left alone.

usage: check_faults.py [folder of the programs: build/dev/examples]

Needs the Debian package faketime. The data set is made here.
"""
import ctypes.util
import glob
import os
import random
import resource
import shutil
import signal
import struct
import subprocess
import sys
import tempfile
import time
from pathlib import Path

PROGRAM = Path(sys.argv[1] if len(sys.argv) > 1 else "build/dev/examples").resolve() / "fashion_mnist"
KILLS, EPOCHS = 100, 240
TRAIN = ["train", "--model", "lenet5", "--batch", "32", "--gauges-every", "1", "--optimizer", "adamw", "--lr", "0.001",
         "--clip-norm", "1", "--ema", "0.9", "--threads", "1"]
failures = []


def check(condition, what, shown=""):
    print("ok  " if condition else "FAIL", what, flush=True)
    if not condition:
        failures.append(what)
        print(shown[-2000:])


def write_images(folder):
    """Two batches of 28 x 28 noise, and a few images to test on, as the four IDX files of the set."""
    random.seed(1)
    for part, count in ("train", 64), ("t10k", 20):
        Path(folder, f"{part}-labels-idx1-ubyte").write_bytes(
            struct.pack(">II", 0x801, count) + bytes(i % 10 for i in range(count)))
        Path(folder, f"{part}-images-idx3-ubyte").write_bytes(
            struct.pack(">IIII", 0x803, count, 28, 28) + random.randbytes(count * 784))


def start(data, out, *flags, environment=None, before=None):
    return subprocess.Popen([PROGRAM, *flags, "--data", data, "--out", out], stdout=subprocess.PIPE,
                            stderr=subprocess.PIPE, text=True, env={**os.environ, **(environment or {})},
                            preexec_fn=before)


def finish(process):
    output, error = process.communicate()
    return process.returncode, output, error


def fails(what, parts, *arguments, **options):
    """A non-zero exit, and one line that has all the parts."""
    code, output, error = finish(start(*arguments, **options))
    lines = error.strip().splitlines()
    check(code > 0 and len(lines) == 1 and all(part in lines[0] for part in parts), what, output + error)


def temporaries(out):
    return glob.glob(f"{out}/*.tmp*")


def outcome(out):
    """The last checkpoint, and the log without its seconds."""
    rows = [line.split(",") for line in Path(out, "dense.csv").read_text().splitlines()]
    seconds = rows[0].index("seconds")
    return Path(out, "dense.safetensors").read_bytes(), [row[:seconds] + row[seconds + 1:] for row in rows]


def left_alone(data, out):
    """Seconds from its start to its first checkpoint, and from one checkpoint to the next."""
    began = time.monotonic()
    process = start(data, out, *TRAIN, "--epochs", str(EPOCHS))
    while process.poll() is None and not Path(out, "dense.safetensors").exists():
        time.sleep(0.001)
    first = time.monotonic() - began
    code, output, error = finish(process)
    check(code == 0, "a run that is left alone", output + error)
    log = Path(out, "dense.csv").read_text().splitlines()
    return first, float(log[-1].split(",")[log[0].split(",").index("seconds")]) / EPOCHS


def kill_and_resume(data, out, whole):
    first, epoch = left_alone(data, whole)
    expected = outcome(whole)
    rng = random.Random(1)
    kills = inside = runs = 0
    checkpoint = Path(out, "dense.safetensors")
    while kills < KILLS:
        shutil.rmtree(out, ignore_errors=True)
        runs += 1
        while True:
            resume = ["--resume", str(checkpoint)] if checkpoint.exists() else []
            process = start(data, out, *TRAIN, "--epochs", str(EPOCHS), *resume)
            if kills < KILLS:
                try:
                    process.wait(rng.uniform(0, first + 6 * epoch))
                except subprocess.TimeoutExpired:
                    while kills % 2 and process.poll() is None and not temporaries(out):
                        pass  # until it saves
                    process.kill()
            code, output, error = finish(process)
            if code != -signal.SIGKILL:
                break
            kills += 1
            inside += bool(temporaries(out))
        check(code == 0 and outcome(out) == expected,
              f"run {runs}, after {kills} kills in all: the bytes of the run that was left alone", output + error)
        check(not temporaries(out), "nothing half-written stays")
        if code != 0:
            return
    check(inside >= KILLS / 10, f"{inside} of {kills} kills came while a checkpoint was written")


def second_writer(data, out):
    endless = [*TRAIN, "--epochs", "1000000"]
    first = start(data, out, *endless)
    while first.poll() is None and not Path(out, "dense.safetensors").exists():
        time.sleep(0.01)
    named = ["only one that writes", f"process {first.pid}"]
    fails("a second run in the folder is refused", named, data, out, *endless)
    fails("so is a plan written there", named, data, out, "plan", "--keep-macs", "0.5")
    for verb, *flags in ("eval",), ("bench",), ("plan", "--keep-macs", "0.5", "--plan", f"{out}/../elsewhere.json"):
        code, output, error = finish(start(data, out, verb, *flags))
        check(code == 0, f"{verb}, which does not write there, is not", output + error)
    check(first.poll() is None, "the first goes on")
    first.kill()
    finish(first)
    code, output, error = finish(start(data, out, *TRAIN, "--epochs", "4"))
    check(code == 0, "the folder is free once its writer is killed", output + error)


def full_disk(data, out):
    finish(start(data, out, *TRAIN, "--epochs", "4"))
    finish(start(data, out, "plan", "--keep-macs", "0.5"))
    before = {path.name: path.read_bytes() for path in Path(out).iterdir()}

    def limited(size):  # writing past so many bytes fails, as on a full disk
        def limit():
            signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
            resource.setrlimit(resource.RLIMIT_FSIZE, (size, size))
        return limit

    for size, file, *flags in ((0, ".lock", *TRAIN), (60, "dense.csv", *TRAIN), (65536, "dense.safetensors", *TRAIN),
                               (100, "plan.json", "plan", "--keep-macs", "0.7")):
        fails(f"{file} does not fit the disk", ["expected", file, "got"], data, out, *flags, "--epochs", "4",
              before=limited(size))
        if file != ".lock":
            check(Path(out, file).read_bytes() == before[file], f"the {file} before is whole")
    for file in "record.json", "report.html":
        Path(out, file).unlink()
        Path(out, file).mkdir()
        fails(f"{file} can't be written", ["expected", file, "got"], data, out, *TRAIN, "--epochs", "4")
        Path(out, file).rmdir()
    check(not temporaries(out), "nothing half-written stays")


def jumping_clock(data, out, whole):
    library = ctypes.util.find_library("faketime") or next(iter(glob.glob("/usr/lib/*/faketime/libfaketime.so.1")), "")
    clock = f"{out}.clock"

    def set_clock(offset):  # at once: half a line would end the program that reads it
        Path(clock + ".new").write_text(offset)
        os.replace(clock + ".new", clock)

    environment = {"LD_PRELOAD": library, "FAKETIME_TIMESTAMP_FILE": clock, "FAKETIME_NO_CACHE": "1",
                   "FAKETIME_DONT_FAKE_MONOTONIC": "1", "DONT_FAKE_MONOTONIC": "1"}
    set_clock("-3650d")
    year = subprocess.run(["date", "+%Y"], env={**os.environ, **environment}, capture_output=True, text=True).stdout
    check(year.strip().isdigit() and int(year) < time.localtime().tm_year, "faketime sets the clock", year)
    process = start(data, out, *TRAIN, "--epochs", str(EPOCHS), environment=environment)
    jumps = 0
    while process.poll() is None:
        set_clock("+3650d" if jumps % 2 else "-3650d")
        jumps += 1
        time.sleep(0.05)
    code, output, error = finish(process)
    check(code == 0 and outcome(out) == outcome(whole), f"the clock jumped {jumps} times by twenty years: the same bytes",
          output + error)
    rows = [line.split(",") for line in Path(out, "dense.csv").read_text().splitlines()]
    seconds = [float(row[rows[0].index("seconds")]) for row in rows[1:]]
    check(all(0 <= a <= b for a, b in zip(seconds, seconds[1:])), "and the log's seconds rise")


def main():
    with tempfile.TemporaryDirectory() as work:
        data = f"{work}/data"
        os.mkdir(data)
        write_images(data)
        kill_and_resume(data, f"{work}/killed", f"{work}/whole")
        jumping_clock(data, f"{work}/clock", f"{work}/whole")
        second_writer(data, f"{work}/shared")
        full_disk(data, f"{work}/full")
    print(f"{len(failures)} failed" if failures else "all as expected")
    sys.exit(bool(failures))


main()
