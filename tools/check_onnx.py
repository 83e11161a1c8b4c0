#!/usr/bin/env python3
"""Runs networks that the tests export as ONNX in ONNX Runtime and compares their outputs with the framework's.

usage: check_onnx.py [test program: build/dev/tests/io_test]

The Python packages onnx and onnxruntime are installed into a virtual environment of their own, build/onnx/venv.
"""
import os
import subprocess
import sys
import venv
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
ENVIRONMENT = ROOT / "build/onnx/venv"
NETWORKS = ROOT / "build/onnx/networks"
EXPECTED = {"lenet5", "vgg11", "resnet20", "resnet20_pruned", "resnet20_pruned_folded", "odd"}  # and more
TOLERANCE = 1e-5  # of the largest output: both add up to a few thousand floats, each in its own order


def enter_environment():
    """Goes on in the virtual environment, which is made first if it is not there."""
    python = ENVIRONMENT / "bin/python"
    if Path(sys.prefix) == ENVIRONMENT:
        return
    if not python.exists():
        venv.create(ENVIRONMENT, with_pip=True)
    subprocess.run([python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check",
                    "onnx==1.23.2", "onnxruntime==1.32.0"], check=True)
    os.execv(python, [python, *sys.argv])


def tensor(path):
    import onnx
    message = onnx.TensorProto()
    message.ParseFromString(path.read_bytes())
    return onnx.numpy_helper.to_array(message)


def check(folder):
    """Largest error relative to the largest output, over a batch of one and a batch of three."""
    import numpy
    import onnx
    import onnxruntime
    onnx.checker.check_model(str(folder / "model.onnx"), full_check=True)
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3  # errors alone
    session = onnxruntime.InferenceSession(str(folder / "model.onnx"), options, providers=["CPUExecutionProvider"])
    image, expected = tensor(folder / "input_0.pb"), tensor(folder / "output_0.pb")
    one = session.run(["logits"], {"image": image})[0]
    three = session.run(["logits"], {"image": numpy.concatenate([image, -image, image])})[0]
    error = max(numpy.abs(got - expected).max() for got in (one, three[:1], three[2:]))
    return error / numpy.abs(expected).max()


def main():
    enter_environment()
    program = Path(sys.argv[1] if len(sys.argv) > 1 else ROOT / "build/dev/tests/io_test")
    subprocess.run([program, "--test-case=onnx_model*", "--minimal"], check=True,
                   env={**os.environ, "ESPALIER_ONNX_FOLDER": str(NETWORKS)})
    folders = sorted(path.parent for path in NETWORKS.glob("*/model.onnx"))
    missing = EXPECTED - {folder.name for folder in folders}
    if missing:
        sys.exit(f"check_onnx: expected the networks {sorted(missing)} in {NETWORKS}, got none")
    errors = {folder.name: check(folder) for folder in folders}
    for name, error in errors.items():
        print(f"{error:8.1e}  {name}")
    wrong = [name for name, error in errors.items() if not error <= TOLERANCE]
    if wrong:
        sys.exit(f"check_onnx: expected errors of at most {TOLERANCE}, got more for {', '.join(wrong)}")
    print(f"check_onnx: {len(errors)} networks agree in ONNX Runtime")


main()
