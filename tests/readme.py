"""The README's own commands, run as they stand there: python tests/readme.py

Every ```sh block is run line by line, in order, in one folder that holds two small files, `cell.tif` and `mask.tif`.
A ```yaml block whose first line is a comment with a file name is written to that file. Other blocks are for reading.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
import tifffile

README = Path(__file__).resolve().parents[1] / "README.md"
FENCED = re.compile(r"^```(\w+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
NAMED = re.compile(r"# (\S+\.ya?ml)\n")


def tubes(shape: tuple[int, int, int] = (16, 96, 96)) -> np.ndarray:
    """(z, y, x) uint16: bright tubes two voxels in radius on a dim, noisy ground."""
    z, y, x = np.indices(shape)
    distance = np.minimum(
        np.hypot(z - 8, y - 48 - 20 * np.sin(x / 15)),
        np.hypot(z - 8, x - 20 - 8 * np.cos(y / 10)),
    )
    noise = np.random.default_rng(0).normal(100, 5, shape)
    return (noise + 900 * np.exp(-0.5 * (distance / 2) ** 2)).clip(0).astype(np.uint16)


def main() -> int:
    """Run every block; 0 if all of them did."""
    blocks = FENCED.findall(README.read_text(encoding="utf-8"))
    here = os.environ | {"PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"}
    ran = 0
    with tempfile.TemporaryDirectory() as folder:
        cell = tubes()
        tifffile.imwrite(Path(folder, "cell.tif"), cell)
        tifffile.imwrite(Path(folder, "mask.tif"), (cell > 500).astype(np.uint8))
        for language, text in blocks:
            if language == "yaml" and (name := NAMED.match(text)):
                Path(folder, name[1]).write_text(text, encoding="utf-8")
            for command in text.splitlines() if language == "sh" else ():
                print(f"$ {command}", flush=True)
                done = subprocess.run(command, shell=True, cwd=folder, env=here, timeout=300)
                if done.returncode:
                    print(f"README.md: `{command}` exits with {done.returncode}", file=sys.stderr)
                    return 1
                ran += 1
    print(f"README.md: {ran} commands ran")
    return 0 if ran else 1


if __name__ == "__main__":
    sys.exit(main())
