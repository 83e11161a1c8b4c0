#!/usr/bin/env python3
"""Checks README.md, CONTRIBUTING.md and docs/*.md: their C++ builds, their commands exist, their links lead somewhere.

C++: a ```cpp block with a `main` is a program, compiled as it stands, linked and run in an empty folder, unless the line
above it is `<!-- needs files -->`: it is then compiled and linked. The other
blocks of a page are one source, in order, behind `#include <espalier/espalier.hpp>` and `namespace es = espalier;`: one that
declares or defines something in its first column stands outside of functions, the rest are the statements of one function.
That source is only compiled. espalier::compiled of build/dev is used if it is there, except for the README, whose
program has to work from headers alone.

Commands, in code of any kind: `./run` has the verb, CMake knows the presets and options, example programs know verbs and
flags (asked with --help, if build/dev or build/release has them), and every path into the tree exists.

usage: check_docs.py [--self-test]
"""
import json
import os
import re
import subprocess
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
OUTSIDE = re.compile(r"^(namespace [\w: ]+\{|template|struct|class|enum|inline)", re.M)
# A page may name what it does not use: it is there to be read.
COMPILER = [os.environ.get("CXX", "g++"), "-std=c++20", "-march=native", "-fopenmp", "-Wall", "-Wextra", "-Werror",
            "-Wno-unused", "-Iinclude", "-isystem", "/usr/include/eigen3"]
ARCHIVE = ROOT / "build/dev/libespalier_compiled.a"
FOLDERS = "include|tests|examples|benchmarks|tools|cmake|docs|packaging"


def without_blocks(text):
    return re.sub(r"^```.*?^```", "", text, flags=re.M | re.S)


def sources(text):
    """The C++ of a page: pairs of a source and what becomes of it: `run`, `link` or `compile`."""
    marked = re.findall(r"(<!-- needs files -->\n)?^```cpp\n(.*?)^```", text, re.M | re.S)
    rest = [block for _, block in marked if "int main(" not in block]
    found = [(block, "link" if mark else "run") for mark, block in marked if "int main(" in block]
    if rest:
        includes = ["#include <espalier/espalier.hpp>\n", *re.findall(r"^#include .*\n", "".join(rest), re.M)]
        rest = [re.sub(r"^#include .*\n", "", block, flags=re.M) for block in rest]
        outside = [block for block in rest if OUTSIDE.search(block)]
        statements = [block for block in rest if not OUTSIDE.search(block)]
        found.append(("".join([*includes, "namespace es = espalier;\n", *outside, "[[maybe_unused]] static void statements() {\n",
                               *statements, "}\n"]), "compile"))
    return found


def build(page, text, work):
    """What is wrong with the C++ of a page, one text a source."""
    problems = []
    for number, (code, goal) in enumerate(sources(text)):
        file = Path(work, f"{page.replace('/', '_')}{number}.cpp")
        program, folder = file.with_suffix(".out"), file.with_suffix("")
        file.write_text(code)
        archive = [ARCHIVE] if ARCHIVE.exists() and page != "README.md" else []
        command = [*COMPILER, *(["-O1", "-DESPALIER_COMPILED"] if archive else ["-O2"]), file]
        command += ["-fsyntax-only"] if goal == "compile" else ["-o", program, *archive, "-lz"]
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
        if done.returncode:
            problems.append(f"{page}: its C++ does not compile\n{done.stderr[:3000]}")
        elif goal == "run":
            folder.mkdir()
            done = subprocess.run([program], cwd=folder, capture_output=True, text=True)
            if done.returncode:
                problems.append(f"{page}: its program exits with {done.returncode}\n{done.stdout[-1000:]}{done.stderr[-1000:]}")
    return problems


def anchors(text):
    """What `#...` may follow the name of a page: its headings, as GitHub writes them."""
    headings = re.findall(r"^#+ +(.*)$", without_blocks(text), re.M)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def links(root, page, text):
    """Links of a page that lead nowhere."""
    problems = []
    for target in re.findall(r"\]\(([^)\s]+)\)", without_blocks(text)):
        if re.match(r"https?:|mailto:", target):
            continue
        path, _, anchor = target.partition("#")
        file = (root / page).parent / path if path else root / page
        if not file.exists():
            problems.append(f"{page}: {target} does not exist")
        elif anchor and anchor not in anchors(file.read_text()):
            problems.append(f"{page}: {target}: no such heading")
    return problems


class Commands:
    """What a page may tell its reader to type."""

    def __init__(self):
        front_door = subprocess.run([ROOT / "run", "help"], capture_output=True, text=True, check=True).stdout
        self.verbs = set(re.findall(r"^  (\w+)", front_door, re.M)) | {"help"}
        presets = json.loads((ROOT / "CMakePresets.json").read_text())
        self.presets = {preset["name"] for preset in presets["configurePresets"]}
        files = [ROOT / "CMakeLists.txt", *ROOT.glob("*/CMakeLists.txt"), *ROOT.glob("cmake/*.cmake")]
        self.options = set(re.findall(r"(?:option|set)\((ESPALIER_\w+)", "".join(f.read_text() for f in files)))
        self.programs = {}
        for example in ROOT.glob("examples/*.cpp"):
            self.programs[example.stem] = None
            for kind in ("release", "dev"):
                program = ROOT / "build" / kind / "examples" / example.stem
                if program.exists():
                    self.programs[example.stem] = subprocess.run([program, "--help"], capture_output=True, text=True,
                                                                 check=True).stdout

    def problems(self, page, text):
        text = re.sub(r"\\\n\s*", " ", text)
        text = re.sub(r"^```sh\n(.*?)^```", lambda block: re.sub("^", "    ", block[1], flags=re.M), text, flags=re.M | re.S)
        expected = [(r"\./run (\w+)", self.verbs, "a verb of ./run"),
                    (r"--preset[ =](\w+)", self.presets, "a preset"),
                    (r"-D(ESPALIER_\w+)=", self.options | {"ESPALIER_COMPILED"}, "an option of CMake")]
        found = [f"{page}: {name} is not {what}" for pattern, known, what in expected
                 for name in re.findall(pattern, text) if name not in known]
        for path in re.findall(rf"(?<![\w./-])((?:{FOLDERS})/[\w./-]+\.(?:py|sh|[ch]pp|cmake|md))\b", text):
            if not (ROOT / path).exists():
                found.append(f"{page}: {path} does not exist")
        for program, rest in re.findall(rf"^    (?:\S*/)?({'|'.join(self.programs)}) (.*)$", text, re.M):
            usage = self.programs[program]
            words = re.findall(r"^[a-z]+(?= |$)|(?<= )--[\w-]+", rest) if usage else []
            found += [f"{page}: {program} knows no {word}" for word in words
                      if not re.search(rf"(?<![\w-]){word}(?![\w-])", usage)]
        return found


def self_test():
    """Plants mistakes, each of which has to be found."""
    commands = Commands()
    here = "# A page\n\n## A part, of it\n\n"
    plants = [
        ("", ""),
        ("[a](#a-part-of-it) [b](page.md) [c](https://example.org)", ""),
        ("[a](gone.md)", "gone.md does not exist"),
        ("[a](page.md#gone)", "no such heading"),
        ("`./run test` `tools/check_docs.py`", ""),
        ("`./run tset`", "tset is not a verb"),
        ("`tools/gone.py --all`", "tools/gone.py does not exist"),
        ("```sh\ncmake \\\n  --preset gone\n```", "gone is not a preset"),
        ("    cmake -DESPALIER_GONE=ON", "ESPALIER_GONE is not an option"),
        ("```cpp\nint main() {}\n```\n```cpp\n#include <vector>\nint main() { std::vector<int> v; }\n```", ""),
        ("```cpp\nint main() { return gone; }\n```", "does not compile"),
        ("```cpp\nint main() { return 3; }\n```", "exits with 3"),
    ]
    for text, expected in plants:
        with tempfile.TemporaryDirectory() as work:
            text = here + text
            Path(work, "page.md").write_text(text)
            found = links(Path(work), "page.md", text) + commands.problems("page.md", text) + build("page.md", text, work)
            if expected and not any(expected in f for f in found) or not expected and found:
                sys.exit(f"check_docs: self-test: expected '{expected}' for {text!r}, got {found}")
    print(f"check_docs: self-test: {len(plants)} planted pages judged right")


def main():
    if sys.argv[1:] == ["--self-test"]:
        return self_test()
    if sys.argv[1:]:
        sys.exit(__doc__)
    pages = {str(path.relative_to(ROOT)): path.read_text()
             for path in [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted(ROOT.glob("docs/*.md"))]}
    commands = Commands()
    problems = [p for page, text in pages.items() for p in links(ROOT, page, text) + commands.problems(page, text)]
    with tempfile.TemporaryDirectory() as work, ThreadPoolExecutor(os.cpu_count()) as pool:
        for found in pool.map(lambda item: build(*item, work), pages.items()):
            problems += found
    if problems:
        sys.exit("\n".join(problems))
    print(f"check_docs: {len(pages)} pages build, run and lead somewhere")


main()
