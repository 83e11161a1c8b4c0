#!/usr/bin/env python3
"""Runs an example program's verbs on a GPU, or on one that the CPU plays, and on the CPU, and expects the same of both.

usage: check_device.py PROGRAM [SECONDS]      (mnist, built with ESPALIER_WITH_CUDA or ESPALIER_CUDA_EMULATED)

Networks and set are so small that an emulated GPU takes a minute. A verb that takes longer than SECONDS, 300 if not said, fails.
"""
import csv
import json
import re
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

TOOLS = Path(__file__).resolve().parent
failures = []
seconds_at_most = 300.0


def check(condition, what, output=""):
    print("ok  " if condition else "FAIL", what, flush=True)
    if not condition:
        failures.append(what)
        print(output[-3000:])


def run(command):
    """What it ended with; a code of 124 is that of a program that took too long, as by timeout(1)."""
    try:
        return subprocess.run(command, capture_output=True, text=True, timeout=seconds_at_most)
    except subprocess.TimeoutExpired as late:
        return subprocess.CompletedProcess(command, 124, (late.stdout or b"").decode(), f"over {seconds_at_most:.0f} s")


class Job:
    """The verbs of one network, each on both devices."""

    def __init__(self, program, name, data, work, *flags, on_gpu=()):
        self.of_device = {"cpu": (), "cuda": on_gpu}
        self.program, self.name, self.work = program, name, Path(work)
        self.flags = ["--data", data, "--threads", "1", "--gauges-every", "1", *flags]

    def command(self, device, verb, *flags, out=""):
        return [self.program, verb, *self.flags, "--device", device, "--out", self.folder(device, out), *flags]

    def folder(self, device, out=""):
        return self.work / f"{self.name}{out}.{device}"

    def run(self, verb, *flags):
        """The outputs on both devices."""
        outputs = []
        for device in ("cpu", "cuda"):
            start = time.monotonic()
            done = run(self.command(device, verb, *flags, *self.of_device[device]))
            check(done.returncode == 0, f"{self.name}: {verb} on {device}, {time.monotonic() - start:.1f} s",
                  done.stdout + done.stderr)
            if done.returncode:
                sys.exit(1)  # what comes next needs it
            outputs.append(done.stdout)
        return outputs

    def compare_logs(self, phase, least=0, most=1e-3):
        """Rows agree within roundings, which training lets grow."""
        rows = [list(csv.DictReader((self.folder(device) / f"{phase}.csv").open())) for device in ("cpu", "cuda")]
        worst = max((abs(float(a[name]) - float(b[name])) / max(1e-3, abs(float(a[name])))
                     for a, b in zip(*rows) for name in ("loss", "cross_entropy", "regularizer")), default=1)
        check(len(rows[0]) == len(rows[1]) > 0 and least <= worst < most,
              f"{self.name}: {phase}: {len(rows[0])} steps as on the CPU, losses within {worst:.0e}")

    def compare_records(self, stages):
        on_cpu, on_gpu = (json.loads((self.folder(device) / "record.json").read_text()) for device in ("cpu", "cuda"))
        same = all(on_cpu[s]["macs"] == on_gpu[s]["macs"] and abs(on_cpu[s]["accuracy"] - on_gpu[s]["accuracy"]) < 0.1
                   for s in stages)
        check(same, f"{self.name}: the same networks, with the same accuracy")
        check(on_gpu["certificate"]["holds"], f"{self.name}: the certificate holds")
        check(on_gpu["settings"]["train"]["--device"] == "cuda", f"{self.name}: the record says where")

    def resume(self):
        """A run on the GPU that is stopped and goes on ends with the bits of one that was not."""
        log = self.folder("cuda", "-parts") / "dense.csv"
        stopped = subprocess.Popen(self.command("cuda", "train", out="-parts"), stdout=subprocess.PIPE,
                                   stderr=subprocess.PIPE, text=True)
        end = time.monotonic() + seconds_at_most
        while stopped.poll() is None and not (log.exists() and len(log.read_text().splitlines()) > 2):
            if time.monotonic() > end:
                stopped.kill()
            time.sleep(0.001)
        stopped.send_signal(signal.SIGINT)
        try:
            _, error = stopped.communicate(timeout=seconds_at_most)
        except subprocess.TimeoutExpired:
            stopped.kill()
            _, error = stopped.communicate()
        if stopped.returncode == 1 and "--resume" in error:
            checkpoint = self.folder("cuda", "-parts") / "dense.safetensors"
            done = run(self.command("cuda", "train", "--resume", checkpoint, out="-parts"))
            check(done.returncode == 0 and "bit for bit" in done.stdout, f"{self.name}: resumed on cuda",
                  done.stdout + done.stderr)
        else:
            check(stopped.returncode == 0, f"{self.name}: over before it could be stopped", error)
        whole, parts = (self.folder("cuda", out) / "dense.weights.safetensors" for out in ("", "-parts"))
        check(whole.read_bytes() == parts.read_bytes(), f"{self.name}: the same bits as without a stop")


def main():
    global seconds_at_most
    if len(sys.argv) not in (2, 3) or sys.argv[1].startswith("-"):
        sys.exit(__doc__)
    seconds_at_most = float(sys.argv[2]) if len(sys.argv) == 3 else seconds_at_most
    program = Path(sys.argv[1]).resolve()
    with tempfile.TemporaryDirectory() as work:
        data = Path(work, "set")
        subprocess.run([TOOLS / "write_mnist.py", data, "32", "20"], check=True)
        whole = Job(program, "cnn", data, work, "--model", "cnn", "--widths", "8,12,16", "--epochs", "2", "--batch", "16", "--lr", "0.01",
                    "--optimizer", "adamw", "--group-sparsity", "1e-4", "--l1", "1e-5", "--clip-norm", "1", "--ema", "0.5", "--downscale", "2",
                    "--crop", "1", "--finetune-epochs", "1", "--growing-epochs", "1")
        whole.run("train")
        whole.compare_logs("dense")
        whole.resume()
        whole.run("prune", "--keep-macs", "0.6")
        whole.compare_logs("growing")
        whole.run("finetune")
        whole.compare_logs("finetuned")
        whole.compare_records(["dense", "pruned", "finetuned"])
        for verb in ("eval", "export"):
            whole.run(verb)
        scans = whole.run("sensitivity", "--ratios", "0.5", "--scan-images", "16", "--criterion", "taylor")
        points = [re.findall(r"^(.*), accuracy (\S+) %", scan, re.M) for scan in scans]
        same = all(a[0] == b[0] and abs(float(a[1]) - float(b[1])) <= 100 * 2 / 16 for a, b in zip(*points))  # 2 of 16 images
        check(len(points[0]) == len(points[1]) > 3 and same, "cnn: the same sensitivities", "".join(scans))

        flow = Job(program, "resnet20", data, work, "--model", "resnet20", "--epochs", "1", "--batch", "16", "--lr", "0.01",
                   "--ffr-gradient", "0.1", "--ffr-curvature", "0.1", "--downscale", "7", "--finetune-lr", "0.01",
                   "--batch-norm-l1", "1e-4", "--group-lasso", "1e-4", "--joins", "indexed", "--steps", "2")
        flow.run("train")
        flow.compare_logs("dense")
        flow.run("prune", "--keep-macs", "0.6", "--criterion", "activation-taylor")
        flow.compare_logs("step1")
        flow.run("finetune", "--finetune-epochs", "1")
        flow.compare_logs("finetuned")
        flow.compare_records(["dense", "pruned", "finetuned"])
        flow.run("bench")

        rounded = Job(program, "bf16", data, work, "--model", "cnn", "--widths", "8,12,16", "--epochs", "1", "--batch", "16",
                      "--lr", "0.01", "--downscale", "2", on_gpu=("--precision", "bf16"))
        rounded.run("train")
        rounded.compare_logs("dense", 1e-5, 0.05)  # of products of two operands with 7 bits each
        refused = run(rounded.command("cpu", "train", "--precision", "bf16"))
        check(refused.returncode != 0 and "expected --device cuda" in refused.stderr, "a precision that the CPU does not have",
              refused.stdout + refused.stderr)
    print(f"{len(failures)} failed" if failures else "the same on both devices")
    sys.exit(bool(failures))


main()
