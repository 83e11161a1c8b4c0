#!/usr/bin/env python3
"""Writes a small set in the layout of MNIST that a network learns at once, for runs without a data set.

An image of class k is noise with a bright square whose place says k.

usage: write_mnist.py FOLDER [training images [test images]]
"""
import gzip
import random
import struct
import sys
from pathlib import Path

SIDE, CLASSES = 28, 10


def image(label, noise):
    pixels = [noise.randrange(64) for _ in range(SIDE * SIDE)]
    top, left = 1 + 9 * (label % 3) + noise.randrange(3), 1 + 6 * (label // 3) + noise.randrange(3)
    for row in range(top, top + 6):
        for column in range(left, left + 5):
            pixels[row * SIDE + column] = 160 + noise.randrange(96)
    return bytes(pixels)


def write(folder, name, count, seed):
    noise = random.Random(seed)
    labels = [i % CLASSES for i in range(count)]
    for kind, extents, data in (("images-idx3", (count, SIDE, SIDE), b"".join(image(label, noise) for label in labels)),
                                ("labels-idx1", (count,), bytes(labels))):
        header = bytes([0, 0, 8, len(extents)]) + struct.pack(f">{len(extents)}I", *extents)
        (folder / f"{name}-{kind}-ubyte.gz").write_bytes(gzip.compress(header + data, mtime=0))


def main():
    if len(sys.argv) < 2 or sys.argv[1].startswith("-"):
        sys.exit(__doc__)
    folder = Path(sys.argv[1])
    train, test = (int(sys.argv[i]) if len(sys.argv) > i else count for i, count in ((2, 512), (3, 100)))
    folder.mkdir(parents=True, exist_ok=True)
    write(folder, "train", train, 1)
    write(folder, "t10k", test, 2)


if __name__ == "__main__":
    main()
