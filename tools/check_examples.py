#!/usr/bin/env python3
"""Runs the example programs as a user would, every verb on a small network, and expects one clear error for bad input.

usage: check_examples.py [folder of the programs: build/dev/examples]

Needs the Debian package dataset-fashion-mnist.
"""
import json
import os
import resource
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

PROGRAMS = Path(sys.argv[1] if len(sys.argv) > 1 else "build/dev/examples").resolve()
SMALL = ["--subset", "512", "--batch", "64"]
failures = []


def run(program, *arguments, before=None):
    return subprocess.run([PROGRAMS / program, *arguments], capture_output=True, text=True, preexec_fn=before)


def check(condition, what, done=None):
    print("ok  " if condition else "FAIL", what)
    if not condition:
        failures.append(what)
        if done is not None:
            print(done.stdout[-2000:], done.stderr[-2000:], sep="\n")


def succeeds(what, program, *arguments):
    done = run(program, *arguments)
    check(done.returncode == 0, what, done)
    return done


def fails(what, parts, program, *arguments, before=None):
    """A non-zero exit, and one line that has all the parts."""
    done = run(program, *arguments, before=before)
    lines = done.stderr.strip().splitlines()
    check(done.returncode > 0 and len(lines) == 1 and all(part in lines[0] for part in parts), what, done)


def main_job(work):
    run_at = ["--out", f"{work}/run"]
    succeeds("train", "fashion_mnist", "train", "--epochs", "2", "--model", "resnet20", "--downscale", "2",
             "--ffr-gradient", "0.1", "--ffr-curvature", "0.1", *SMALL, *run_at)
    succeeds("plan", "fashion_mnist", "plan", "--keep-macs", "0.5", "--joins", "indexed", *run_at)
    succeeds("prune", "fashion_mnist", "prune", *SMALL, *run_at)
    succeeds("finetune", "fashion_mnist", "finetune", "--finetune-epochs", "1", *SMALL, *run_at)
    succeeds("eval", "fashion_mnist", "eval", *SMALL, *run_at)
    succeeds("bench", "fashion_mnist", "bench", *run_at)
    record = json.loads(Path(work, "run/record.json").read_text())
    check(all(stage in record for stage in ("dense", "pruned", "finetuned", "certificate")), "record has every stage")
    check(record["pruned"]["macs"] <= record["dense"]["macs"] / 2, "pruned to half of the multiply-adds")
    check(record["certificate"]["reference_path_bit_equal"] is True, "certificate is bit-equal")
    check(record["settings"]["train"]["--ffr-gradient"] == "0.1", "record has the settings of an earlier verb")
    check("finetuned" in Path(work, "run/report.html").read_text(), "report has the last stage")
    for verb in ("prune", "finetune"):
        succeeds(f"{verb} by dead filters", "fashion_mnist", verb, "--criterion", "dead", "--keep-channels",
                 "0.9", "--finetune-epochs", "1", *SMALL, "--out", f"{work}/run")


def options_of_models(work):
    for model, *options in (["cnn", "--widths", "8,12"],
                            ["vgg11", "--hidden", "32,16", "--pooled", "2", "--dropout", "0.5"]):
        run_at = ["--out", f"{work}/{model}"]
        succeeds(f"train {model} with options", "fashion_mnist", "train", "--epochs", "1", "--subset", "64",
                 "--batch", "32", "--schedule", "constant", "--downscale", "2", "--model", model, *options, *run_at)
        succeeds(f"eval {model}: the checkpoint has its options", "fashion_mnist", "eval", *SMALL, *run_at)
        flags = json.loads(Path(work, model, "record.json").read_text())["settings"]["train"]
        check([flags.get(name) for name in options[::2]] == options[1::2], f"record has the options of {model}")


def stop_and_resume(work):
    flags = ["train", "--model", "lenet5", "--epochs", "6", "--gauges-every", "1", *SMALL]
    succeeds("a run without a stop", "fashion_mnist", *flags, "--out", f"{work}/whole")
    stopped = subprocess.Popen([PROGRAMS / "fashion_mnist", *flags, "--out", f"{work}/parts"],
                               stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    log = Path(work, "parts/dense.csv")
    while stopped.poll() is None and not (log.exists() and len(log.read_text().splitlines()) > 5):
        time.sleep(0.01)
    stopped.send_signal(signal.SIGINT)
    _, error = stopped.communicate()
    check(stopped.returncode == 1 and "--resume" in error, "Ctrl-C stops after a step and says how to go on")
    succeeds("resume", "fashion_mnist", *flags, "--out", f"{work}/parts", "--resume", f"{work}/parts/dense.safetensors")
    weights = [Path(work, folder, "dense.weights.safetensors").read_bytes() for folder in ("whole", "parts")]
    check(weights[0] == weights[1], "a resumed run ends with the same bits")


def bad_input(work):
    train = ["train", "--model", "lenet5", "--epochs", "1", *SMALL, "--out", f"{work}/bad"]
    for program in ("fashion_mnist", "cifar10"):
        done = run(program, "--help")
        check(done.returncode == 0 and "--data" in done.stdout, f"{program} --help", done)
        fails(f"{program}: no data", ["expected", "got"], program, *train, "--data", f"{work}/nowhere")
    check(run("fashion_mnist", "trian").returncode > 0, "a verb that is not there")
    check(run("fashion_mnist", "train", "plan").returncode > 0, "two verbs")
    check(run("fashion_mnist", "train", "--epochs", "many").returncode > 0, "a flag that is no number")
    check(run("fashion_mnist", "train", "--widths", "8,many").returncode > 0, "a list that is not of numbers")
    fails("no checkpoint", ["dense.safetensors"], "fashion_mnist", "eval", "--out", f"{work}/empty")
    fails("a model that is not there", ["resnet21"], "fashion_mnist", *train, "--model", "resnet21")

    succeeds("a network to spoil", "fashion_mnist", *train)
    checkpoint = Path(work, "bad/dense.safetensors")
    whole = checkpoint.read_bytes()
    fails("a loss that is not finite", ["finite"], "fashion_mnist", *train, "--lr", "1e30", "--schedule", "constant",
          "--epochs", "3")
    checkpoint.write_bytes(whole)

    def no_space():  # as on a full disk: writing past this many bytes fails
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (65536, 65536))

    fails("a full disk", ["expected", "got"], "fashion_mnist", *train, before=no_space)
    check(checkpoint.read_bytes() == whole, "the checkpoint before is intact")
    check(not [name for name in os.listdir(checkpoint.parent) if "tmp" in name or "partial" in name],
          "nothing half-written stays")

    for size in (0, 7, 100, len(whole) // 2, len(whole) - 1):
        checkpoint.write_bytes(whole[:size])
        fails(f"a checkpoint cut off at {size} bytes", ["expected", "dense.safetensors"], "fashion_mnist", "eval",
              "--out", f"{work}/bad")
    checkpoint.write_bytes(whole)
    fails("a plan for another network", ["expected"], "fashion_mnist", "prune", "--plan", f"{work}/run/plan.json",
          *SMALL, "--out", f"{work}/bad")
    Path(work, "plan.json").write_text("{")
    fails("a plan that is no JSON", ["plan.json"], "fashion_mnist", "prune", "--plan", f"{work}/plan.json", *SMALL,
          "--out", f"{work}/bad")
    fails("two targets", ["exactly one"], "fashion_mnist", "prune", "--keep-macs", "0.5", "--threshold", "0.1", *SMALL,
          "--out", f"{work}/bad")

    data = Path("/usr/share/datasets/fashion-mnist")
    cut = Path(work, "cut")
    cut.mkdir()
    for file in data.iterdir():
        (cut / file.name).write_bytes(file.read_bytes()[:5000])
    fails("images cut off", ["expected", "got"], "fashion_mnist", *train, "--data", str(cut))
    fails("a batch in place of CIFAR-10", ["expected"], "cifar10", *train, "--data", str(data))


def main():
    with tempfile.TemporaryDirectory() as work:
        main_job(work)
        options_of_models(work)
        stop_and_resume(work)
        bad_input(work)
    print(f"{len(failures)} failed" if failures else "all as expected")
    sys.exit(bool(failures))


main()
