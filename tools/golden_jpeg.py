#!/usr/bin/env python3
"""Writes tests/golden/*.jpg and the pixels that PIL decodes from them, for tests/data/jpeg_test.cpp to compare with.

    python3 tools/golden_jpeg.py [folder]

Needs PIL (Debian: python3-pil), which like the library decodes by libjpeg-turbo. The images are drawn here.
"""
import gzip
import math
import sys
from pathlib import Path

from PIL import Image, features

FOLDER = Path(sys.argv[1] if len(sys.argv) > 1 else Path(__file__).resolve().parent.parent / "tests" / "golden")


def drawing(width, height):
    """Waves and a disk: smooth colours for the upsampling, an edge for the transform."""
    image = Image.new("RGB", (width, height))
    for y in range(height):
        for x in range(width):
            wave = [round(127 + 127 * math.sin(x / 9 + c) * math.cos(y / 7 - c)) for c in range(3)]
            disk = math.hypot(x - 0.4 * width, y - 0.6 * height) < 0.2 * width
            image.putpixel((x, y), (255, 40, 90) if disk else tuple(wave))
    return image


def write(name, image, **options):
    path = FOLDER / f"{name}.jpg"
    image.save(path, quality=80, **options)
    pixels = Image.open(path).convert("RGB").tobytes()
    (FOLDER / f"{name}.rgb.gz").write_bytes(gzip.compress(pixels, 9, mtime=0))
    print(f"{path}: {path.stat().st_size} bytes")


write("colour", drawing(64, 64))  # colours at half the resolution, as most JPEG files have them
write("grey", drawing(64, 64).convert("L"))
write("odd", drawing(17, 13))
write("progressive", drawing(17, 13), progressive=True)
Image.new("CMYK", (64, 64), (10, 20, 30, 40)).save(FOLDER / "cmyk.jpg")
print("by libjpeg-turbo", features.version("libjpeg_turbo"))
