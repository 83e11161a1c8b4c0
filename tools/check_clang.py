#!/usr/bin/env python3
"""Compiles every test, example and benchmark with clang++-14, all warnings as errors, without making objects.

g++ runs the tests; what a second compiler adds is its warnings, and those need no code generation.
usage: check_clang.py
"""
import json
import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent


def compiles(entry):
    done = subprocess.run(f"{entry['command']} -fsyntax-only", shell=True, cwd=entry["directory"],
                          capture_output=True, text=True)
    return entry["file"], done.returncode == 0, done.stdout + done.stderr


def main():
    subprocess.run(["cmake", "--preset", "clang", "-DCMAKE_DISABLE_PRECOMPILE_HEADERS=ON"], cwd=ROOT, check=True,
                   stdout=subprocess.DEVNULL)
    entries = json.loads((ROOT / "build/clang/compile_commands.json").read_text())
    failed = 0
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        for file, fine, output in pool.map(compiles, entries):
            if not fine:
                failed += 1
                print(f"{os.path.relpath(file, ROOT)}:\n{output}")
    print(f"check_clang: {len(entries)} sources, {failed} failed")
    sys.exit(failed > 0)


if __name__ == "__main__":
    main()
