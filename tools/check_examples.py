#!/usr/bin/env python3
"""Runs the example programs as a user would, every verb on a small network, and expects one clear error for bad input.

usage: check_examples.py [folder of the programs: build/dev/examples]

Needs the Debian packages dataset-fashion-mnist and libjpeg-turbo-progs. Of the other sets it writes small ones in the
layouts in which they are published. The environment variable ESPALIER_DATA may name a folder with the real ones
(cifar-10-batches-bin, cifar-100-binary, mnist, tiny-imagenet-200): a few steps are then trained on each that is there.
"""
import gzip
import json
import os
import random
import resource
import shutil
import struct
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
    for criterion in ("linf", "geometric-median", "lamp", "taylor", "activation-taylor", "rank", "apoz"):
        succeeds(f"plan by {criterion}", "fashion_mnist", "plan", "--keep-macs", "0.5", "--criterion", criterion, *SMALL, *run_at)
    succeeds("plan", "fashion_mnist", "plan", "--keep-macs", "0.5", "--joins", "indexed", *run_at)
    succeeds("prune", "fashion_mnist", "prune", *SMALL, *run_at)
    succeeds("finetune", "fashion_mnist", "finetune", "--finetune-epochs", "1", *SMALL, *run_at)
    done = succeeds("eval", "fashion_mnist", "eval", *SMALL, *run_at)
    check("finetuned.safetensors: logits of its example bit for bit" in done.stdout, "a loaded network says the same", done)
    succeeds("bench", "fashion_mnist", "bench", *run_at)
    done = succeeds("bench of one checkpoint", "fashion_mnist", "bench", "--from", f"{work}/run/pruned.safetensors", *run_at)
    check("with 1.00 of the MACs" not in done.stdout, "the other one is the dense network", done)
    record = json.loads(Path(work, "run/record.json").read_text())
    check(all(stage in record for stage in ("dense", "pruned", "finetuned", "certificate")), "record has every stage")
    check(record["pruned"]["macs"] <= record["dense"]["macs"] / 2, "pruned to half of the multiply-adds")
    check(record["certificate"]["reference_path_bit_equal"] is True, "certificate is bit-equal")
    check(record["settings"]["train"]["--ffr-gradient"] == "0.1", "record has the settings of an earlier verb")
    check(record["settings"]["prune"]["--criterion"] == "folded" and record["settings"]["train"]["--joins"] == "coupled",
          "record has the settings that were not given")
    check("finetuned" in Path(work, "run/report.html").read_text(), "report has the last stage")
    done = succeeds("prune in steps", "fashion_mnist", "prune", "--keep-macs", "0.4", "--steps", "3", "--decline", "linear",
                    "--from", f"{work}/run/dense.safetensors", *SMALL, "--out", f"{work}/steps")
    check("step 3 of 3: to 40 %" in done.stdout and Path(work, "steps/step2.safetensors").exists() and
          not Path(work, "steps/step3.safetensors").exists(), "fine-tuned between the steps", done)
    done = succeeds("prune behind growing regularization", "fashion_mnist", "prune", "--keep-macs", "0.5",
                    "--growing-epochs", "1", "--growing-increment", "0.1", "--from", f"{work}/run/dense.safetensors",
                    *SMALL, "--out", f"{work}/growing")
    check("growing regularization of " in done.stdout and Path(work, "growing/growing.csv").exists(), "with a log", done)
    fails("growing regularization in steps", ["--growing-epochs without --steps, got 1 and 3"], "fashion_mnist", "prune",
          "--keep-macs", "0.4", "--steps", "3", "--growing-epochs", "1", "--from", f"{work}/run/dense.safetensors", *SMALL,
          "--out", f"{work}/growing")
    steps = json.loads(Path(work, "steps/record.json").read_text())
    check(0.3 < steps["pruned"]["macs"] / record["dense"]["macs"] <= 0.4, "a share of the original", done)
    planning_job(work)
    export_job(work)
    for verb in ("prune", "finetune"):
        succeeds(f"{verb} by dead filters", "fashion_mnist", verb, "--criterion", "dead", "--keep-channels",
                 "0.9", "--finetune-epochs", "1", *SMALL, "--out", f"{work}/run")


def planning_job(work):
    """What a plan may ask for beside multiply-adds, and what shows which groups stand a cut."""
    dense, run_at = ["--from", f"{work}/run/dense.safetensors"], ["--out", f"{work}/plans"]
    for what, flags in (("mixed joins", ["--keep-macs", "0.5", "--joins", "mixed"]),
                        ("a target of latency", ["--keep-latency", "0.7", "--latency-batch", "4"])):
        succeeds(f"plan with {what}", "fashion_mnist", "plan", *flags, *dense, *run_at)
        plan = json.loads(Path(work, "plans/plan.json").read_text())
        before, after = plan["milliseconds"]
        reached = after <= 0.7 * before if "--keep-latency" in flags else plan["after"]["macs"] <= plan["before"]["macs"] / 2
        check(reached, f"a plan with {what} reaches it")
    check(Path(work, "plans/latencies.csv").exists(), "the sweep of widths is kept")
    scan = ["sensitivity", "--ratios", "0.5", "--scan-images", "100", *SMALL, *dense, *run_at]
    succeeds("sensitivity", "fashion_mnist", *scan)
    rows = Path(work, "plans/sensitivity.csv").read_text()
    check(len([row for row in rows.splitlines() if ",0.5," in row]) >= 12, "a point for each group")
    check("<svg" in Path(work, "plans/sensitivity.svg").read_text(), "sensitivity has a plot")
    succeeds("sensitivity again, measured before", "fashion_mnist", *scan)
    check(Path(work, "plans/sensitivity.csv").read_text() == rows, "a finished scan measures nothing")


def own_network():
    done = succeeds("prune a network of one's own", "prune_your_own")
    check("certificate (holds)" in done.stdout and "bit-equal" in done.stdout, "its certificate holds", done)


def export_job(work):
    """The network as C, compiled and tested without the framework, and as ONNX."""
    done = succeeds("export as C", "fashion_mnist", "export", "--name", "net", "--out", f"{work}/run")
    check("bytes of workspace" in done.stdout, "export says how much memory the network takes", done)
    main = Path(work, "run/main.c")
    main.write_text('#include <stdio.h>\n#include "net.h"\nint main(void) { static float w[NET_WORKSPACE]; '
                    'puts(net_classes[NET_OUTPUTS - 1]); return net_self_test(w); }\n')
    flags = ["-std=c99", "-pedantic", "-Wall", "-Wextra", "-Wconversion", "-Werror", "-O2"]
    built = subprocess.run(["gcc", *flags, main, f"{work}/run/net.c", "-lm", "-o", f"{work}/run/net"])
    check(built.returncode == 0, "exported C compiles")
    ran = subprocess.run([f"{work}/run/net"], capture_output=True, text=True)
    check(ran.returncode == 0, "exported C passes its self-test")
    check(ran.stdout == "Ankle boot\n", "exported C knows the names of the classes", ran)
    succeeds("export as ONNX", "fashion_mnist", "export", "--format", "onnx", "--fold-batch-norm", "--out", f"{work}/run")
    check(Path(work, "run/network.onnx").stat().st_size > 0, "ONNX file")
    fails("a name that is no C identifier", ["C identifier", "2nd"], "fashion_mnist", "export", "--name", "2nd",
          "--out", f"{work}/run")


def options_of_models(work):
    for model, *options in (["cnn", "--widths", "8,12"],
                            ["vgg11", "--hidden", "32,16", "--pooled", "2", "--dropout", "0.5"]):
        run_at = ["--out", f"{work}/{model}"]
        succeeds(f"train {model} with options, two steps", "fashion_mnist", "train", "--epochs", "1", "--subset", "64",
                 "--batch", "32", "--downscale", "2", "--model", model, *options, *run_at)
        succeeds(f"eval {model}: the checkpoint has its options", "fashion_mnist", "eval", *SMALL, *run_at)
        flags = json.loads(Path(work, model, "record.json").read_text())["settings"]["train"]
        check([flags.get(name) for name in options[::2]] == options[1::2], f"record has the options of {model}")


def stop_and_resume(work):
    flags = ["train", "--model", "lenet5", "--epochs", "6", "--gauges-every", "1", "--optimizer", "adamw", "--lr",
             "0.001", "--clip-norm", "0.5", "--ema", "0.9", "--label-smoothing", "0.1", *SMALL]
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
    settings = json.loads(Path(work, "whole/record.json").read_text())["settings"]["train"]
    check([settings[flag] for flag in ("--optimizer", "--clip-norm", "--ema")] == ["adamw", "0.5", "0.9"],
          "the record has optimizer, clipping and averaging")
    check("gradient_norm" in log.read_text().splitlines()[0], "the log has the norm of the gradients")
    averaged = succeeds("eval of a checkpoint with averages", "fashion_mnist", "eval", *SMALL, "--out", f"{work}/whole")
    record = json.loads(Path(work, "whole/record.json").read_text())
    check(f"{100 * record['dense']['accuracy']:.2f} %" in averaged.stdout, "the averages are what is evaluated")
    fails("resuming averages without --ema", ["--ema"], "fashion_mnist", *flags, "--ema", "0", "--out",
          f"{work}/parts", "--resume", f"{work}/whole/dense.safetensors")


def bad_input(work):
    train = ["train", "--model", "lenet5", "--epochs", "1", *SMALL, "--out", f"{work}/bad"]
    for program in ("fashion_mnist", "cifar10", "cifar100", "mnist", "tiny_imagenet"):
        done = run(program, "--help")
        check(done.returncode == 0 and "--data" in done.stdout, f"{program} --help", done)
        done = run(program, "--help", "demo")
        check("--keep-macs FLOAT=0.5" in done.stdout, f"{program} --help demo has the defaults of the demo", done)
        fails(f"{program}: no data", ["expected", "got"], program, *train, "--data", f"{work}/nowhere")
    check(run("fashion_mnist", "trian").returncode > 0, "a verb that is not there")
    check(run("fashion_mnist", "train", "plan").returncode > 0, "two verbs")
    check(run("fashion_mnist", "train", "--epochs", "many").returncode > 0, "a flag that is no number")
    check(run("fashion_mnist", "train", "--widths", "8,many").returncode > 0, "a list that is not of numbers")
    for flag, value, wanted in (("--epochs", "many", "from 0"), ("--downscale", "0", "from 1"),
                                ("--keep-macs", "2", "from 0 to 1"), ("--joins", "2", "coupled, indexed, mixed")):
        done = run("fashion_mnist", "train", flag, value)
        check(done.returncode > 0 and f"{flag}: expected" in done.stderr and f"{wanted}, got {value}" in done.stderr,
              f"{flag} {value} is told what is expected", done)
    fails("a GPU, in programs without CUDA", ["expected a build with CUDA", "ESPALIER_WITH_CUDA"], "fashion_mnist", *train,
          "--device", "cuda", "--out", f"{work}/gpu")
    check(not Path(work, "gpu").exists(), "an error before anything is written")
    check(run("fashion_mnist", "train", "--device", "gpu").returncode > 0, "a device that is not there")
    fails("no checkpoint", ["eval: expected", "dense.safetensors"], "fashion_mnist", "eval", "--out", f"{work}/empty")
    check(not Path(work, "empty").exists(), "a verb that only reads makes no folder")
    fails("nothing to resume", ["gone.safetensors"], "fashion_mnist", *train, "--resume", f"{work}/gone.safetensors")
    fails("more images a step than there are", ["--batch", "64 training images"], "fashion_mnist", *train, "--subset", "64",
          "--batch", "65")
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

    fails("steps without a target", ["expected a target with --steps 2"], "fashion_mnist", "prune", "--steps", "2", "--from",
          f"{work}/run/dense.safetensors", *SMALL, "--out", f"{work}/bad")

    data = Path("/usr/share/datasets/fashion-mnist")
    cut = Path(work, "cut")
    cut.mkdir()
    for file in data.iterdir():
        (cut / file.name).write_bytes(file.read_bytes()[:5000])
    fails("images cut off", ["expected", "got"], "fashion_mnist", *train, "--data", str(cut))
    fails("a batch in place of CIFAR-10", ["expected"], "cifar10", *train, "--data", str(data))


def jpeg(path, noise, kind):
    """Writes an image of 64 x 64 pixels: colour (P6) or grayscale (P5)."""
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = noise.randbytes(64 * 64 * (3 if kind == "P6" else 1))
    subprocess.run(["cjpeg", "-quality", "70", "-outfile", path], input=f"{kind}\n64 64\n255\n".encode() + pixels,
                   check=True)


def write_sets(folder):
    """Small sets of noise: CIFAR-10, CIFAR-100, MNIST and two classes of Tiny ImageNet."""
    noise = random.Random(1)

    def idx(name, extents, elements):
        data = bytes([0, 0, 8, len(extents)]) + struct.pack(f">{len(extents)}I", *extents) + elements
        (folder / "mnist" / f"{name}.gz").write_bytes(gzip.compress(data))

    for name in ("cifar-10-batches-bin", "cifar-100-binary", "mnist"):
        (folder / name).mkdir(parents=True)
    for name in (*(f"data_batch_{i}" for i in range(1, 6)), "test_batch"):
        records = [bytes([i % 10]) + noise.randbytes(3072) for i in range(64)]
        (folder / "cifar-10-batches-bin" / f"{name}.bin").write_bytes(b"".join(records))
    for name, count in (("train", 256), ("test", 64)):
        records = [bytes([i % 20, i % 100]) + noise.randbytes(3072) for i in range(count)]
        (folder / "cifar-100-binary" / f"{name}.bin").write_bytes(b"".join(records))
    for name, count in (("train", 256), ("t10k", 64)):
        idx(f"{name}-images-idx3-ubyte", (count, 28, 28), noise.randbytes(count * 784))
        idx(f"{name}-labels-idx1-ubyte", (count,), bytes(i % 10 for i in range(count)))
    tiny, wnids = folder / "tiny-imagenet-200", ("n02124075", "n01641577")
    lines = []
    for k, wnid in enumerate(wnids):
        for i in range(40):
            jpeg(tiny / "train" / wnid / "images" / f"{wnid}_{i}.JPEG", noise, "P5" if i % 10 == 0 else "P6")
        for i in range(10):
            name = f"val_{10 * k + i}.JPEG"
            jpeg(tiny / "val" / "images" / name, noise, "P6")
            lines.append(f"{name}\t{wnid}\t0\t0\t63\t63\n")
    (tiny / "wnids.txt").write_text("\n".join(wnids) + "\n")
    (tiny / "words.txt").write_text("n01641577\tbullfrog\nn02124075\tEgyptian cat\n")
    (tiny / "val" / "val_annotations.txt").write_text("".join(lines))


SETS = {"cifar10": "cifar-10-batches-bin", "cifar100": "cifar-100-binary", "mnist": "mnist",
        "tiny_imagenet": "tiny-imagenet-200"}


def other_sets(work):
    sets = Path(work, "sets")
    write_sets(sets)
    for program, folder in SETS.items():
        flags = ["--data", str(sets / folder), "--out", f"{work}/{program}", "--batch", "16"]
        small = ["--model", "lenet5", "--downscale", "2" if program == "tiny_imagenet" else "1"]
        succeeds(f"{program} train", program, "train", "--epochs", "1", "--cutout", "8", *small, *flags)
        succeeds(f"{program} prune", program, "prune", "--keep-macs", "0.6", *flags)
        succeeds(f"{program} finetune", program, "finetune", "--finetune-epochs", "1", *flags)
        succeeds(f"{program} eval", program, "eval", *flags)
        record = json.loads(Path(work, program, "record.json").read_text())
        check(all(stage in record for stage in ("dense", "pruned", "finetuned")) and
              record["settings"]["train"]["--cutout"] == "8", f"{program}: the record has every stage and the cutout")
    tiny = sets / SETS["tiny_imagenet"]
    cache = tiny / "tiny-imagenet-200.train.cache"
    decoded = cache.stat().st_mtime_ns
    flags = ["--model", "resnet20", "--epochs", "1", "--subset", "16", "--batch", "8", "--out", f"{work}/tiny"]
    succeeds("tiny_imagenet: a ResNet on 64 x 64 pixels", "tiny_imagenet", "train", "--data", str(tiny), *flags)
    check(cache.stat().st_mtime_ns == decoded, "images are decoded once")
    coarse = ["--data", str(sets / SETS["cifar100"]), "--out", f"{work}/coarse", "--batch", "16"]
    succeeds("cifar100: superclasses", "cifar100", "train", "--labels", "coarse", "--model", "lenet5", "--epochs", "1",
             *coarse)
    record = json.loads(Path(work, "coarse/record.json").read_text())
    check(record["settings"]["train"]["--labels"] == "coarse", "the record has the labels")
    succeeds("cifar100: superclasses again", "cifar100", "eval", "--labels", "coarse", *coarse)
    fails("cifar100: other labels than the network's", ["20 classes", "100"], "cifar100", "eval", *coarse)
    fails("cifar10: other images than the network's", ["[28,28,1]", "[32,32,3]"], "cifar10", "eval", "--from",
          f"{work}/mnist/dense.safetensors", "--data", str(sets / SETS["cifar10"]), "--out", f"{work}/cifar10")
    check(run("cifar100", "train", "--labels", "both", *coarse).returncode > 0, "labels that are not there")
    lonely = shutil.copytree(sets / SETS["cifar100"], Path(work, "lonely"))
    (lonely / "test.bin").write_bytes((lonely / "test.bin").read_bytes()[:3074])
    succeeds("a test set of one image", "cifar100", "train", "--model", "lenet5", "--epochs", "1", "--batch", "16",
             "--data", str(lonely), "--out", f"{work}/lonely_run")


def bad_sets(work):
    """Each kind of damage to a copy of the small sets, and what the one line must say."""
    sets, bad = Path(work, "sets"), Path(work, "bad_sets")
    cifar, labels = "cifar-100-binary/test.bin", "mnist/t10k-labels-idx1-ubyte.gz"
    image = "tiny-imagenet-200/train/n01641577/images/n01641577_3.JPEG"
    annotations = "tiny-imagenet-200/val/val_annotations.txt"

    def cut(size):
        return lambda path: path.write_bytes(path.read_bytes()[:size])

    def with_byte(offset, value):
        return lambda path: path.write_bytes(path.read_bytes()[:offset] + bytes([value]) +
                                             path.read_bytes()[offset + 1:])

    def wrong_digit(path):
        path.write_bytes(gzip.compress(gzip.decompress(path.read_bytes())[:-1] + b"\x0a"))

    for program, file, what, damage, parts in (
            ("cifar100", cifar, "cut off", cut(5000), ["byte 5000", "cs.toronto.edu"]),
            ("cifar100", cifar, "a wrong label", with_byte(1, 100), ["below 100", "byte 1 of", "cs.toronto.edu"]),
            ("cifar100", cifar, "missing", Path.unlink, ["cs.toronto.edu"]),
            ("mnist", labels, "cut off", cut(20), ["byte 20 of"]),
            ("mnist", labels, "a wrong label", wrong_digit, ["below 10", "got 10"]),
            ("mnist", labels, "missing", Path.unlink, ["github.com/cvdfoundation/mnist"]),
            ("tiny_imagenet", image, "cut off", cut(1000), ["Premature end of JPEG file"]),
            ("tiny_imagenet", image, "not a JPEG", lambda path: path.write_text("hello"), ["Not a JPEG file"]),
            ("tiny_imagenet", image, "missing folder", lambda path: shutil.rmtree(path.parent), ["cs231n.stanford.edu"]),
            ("tiny_imagenet", annotations, "a wrong label", lambda path: path.write_text("val_0.JPEG\tn0\n"), ["n0"])):
        shutil.copytree(sets, bad)
        damage(bad / file)
        name = (bad / file).parent.name if what == "missing folder" else Path(file).name.removesuffix(".gz")
        fails(f"{program}: {what}", ["expected", "got", name, *parts], program, "train", "--data",
              str(bad / SETS[program]), "--out", f"{work}/bad", "--model", "lenet5")
        shutil.rmtree(bad)
    fails("tiny_imagenet: no room for the cache", ["/proc", "cache"], "tiny_imagenet", "train", "--data",
          str(sets / SETS["tiny_imagenet"]), "--cache", "/proc/none", "--out", f"{work}/bad")


def real_sets(work):
    data = os.environ.get("ESPALIER_DATA", "")
    for program, folder in SETS.items():
        at = Path(data, folder)
        if not data or not at.is_dir():
            print(f"     {at}: not there, skipped")
            continue
        own = ["--cache", f"{work}/real_cache", "--downscale", "2"] if program == "tiny_imagenet" else []
        done = succeeds(f"{program} on the real set, {at}", program, "train", "--data", str(at), "--model", "lenet5",
                        "--subset", "512", "--epochs", "1", "--cutout", "8", "--out", f"{work}/real_{program}", *own)
        print("    ", done.stdout.splitlines()[0])


def main():
    with tempfile.TemporaryDirectory() as work:
        main_job(work)
        own_network()
        options_of_models(work)
        stop_and_resume(work)
        bad_input(work)
        other_sets(work)
        bad_sets(work)
        real_sets(work)
    print(f"{len(failures)} failed" if failures else "all as expected")
    sys.exit(bool(failures))


main()
