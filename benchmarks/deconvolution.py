"""Deconvolution: what do ten iterations of Richardson and Lucy cost, against scikit-image?"""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from _engine import do, pipeline
from _inputs import of_array, stored, tubes
from measuring import Question, Target, Tool, Turn, ask

VOXEL_UM = (0.2, 0.08, 0.08)
MICROSCOPE = "epi1"
ITERATIONS = 10
TINY = (16, 64, 64)


def prepare(folder: Path, sizes: Mapping[str, Any]) -> None:
    from scipy.signal import fftconvolve

    from cristae.optics import richardson_lucy
    from cristae.optics.blur import weights

    blur = richardson_lucy(voxel_um=VOXEL_UM, microscope=MICROSCOPE).apply.keywords["blur"]
    kernel = weights(blur)
    light = np.zeros(sizes["shape"], np.float32)
    # Dark at the rim: beyond it the tools do not take the same for granted.
    inside = tuple(slice(n // 2, -(n // 2)) for n in kernel.shape)
    light[inside] = tubes(light[inside].shape, sizes["tubes"])
    image = np.random.default_rng(0).poisson(fftconvolve(light, kernel, "same").clip(0)).astype(np.uint16)
    np.save(folder / "image.npy", image)
    np.save(folder / "psf.npy", kernel)
    stored(folder / "image.zarr", of_array(image), image.shape, sizes["chunk"], "uint16")
    tiny = image[: TINY[0], : TINY[1], : TINY[2]]
    stored(folder / "tiny.zarr", of_array(tiny), tiny.shape, TINY, "uint16")


def middle(found: np.ndarray) -> dict[str, float]:
    """Light in the middle."""
    inner = tuple(slice(3 * n // 8, 5 * n // 8) for n in found.shape)
    return {"mean": float(found[inner].mean(dtype=np.float64))}


def in_memory(turn: Turn, tv: float) -> dict[str, float]:
    from cristae.optics import richardson_lucy

    image = np.load(turn.inputs / "image.npy")
    stage = richardson_lucy(voxel_um=VOXEL_UM, microscope=MICROSCOPE, iterations=ITERATIONS, tv=tv)
    stage(image[: TINY[0], : TINY[1], : TINY[2]])
    with turn.clock():
        found = stage(image)
    return middle(found)


def in_blocks(turn: Turn) -> None:
    steps = f"richardson_lucy: {{microscope: {MICROSCOPE}, iterations: {ITERATIONS}}}"
    text = f"output: {{name: sharp}}\nsteps:\n  - {steps}\n"
    do(pipeline(text, turn.inputs / "tiny.zarr", turn.folder / "tiny", VOXEL_UM))
    job = pipeline(text, turn.inputs / "image.zarr", turn.folder / "image", VOXEL_UM)
    with turn.clock():
        do(job, block=tuple(turn.sizes["block"]))


def scikit_image(turn: Turn) -> dict[str, float]:
    from skimage.restoration import richardson_lucy

    image, kernel = np.load(turn.inputs / "image.npy").astype(np.float32), np.load(turn.inputs / "psf.npy")
    with turn.clock():
        found = richardson_lucy(image, kernel, num_iter=ITERATIONS, clip=False)
    assert found.dtype == np.float32
    return middle(found)


OURS = ("cristae", "scipy")

QUESTION = Question(
    "deconvolution",
    f"Richardson-Lucy, {ITERATIONS} iterations, 64 x 512 x 512, a PSF of 21 x 25 x 25",
    full={"shape": (64, 512, 512), "tubes": 120, "chunk": (32, 128, 128), "block": (64, 256, 256)},
    small={"shape": (32, 96, 96), "tubes": 8, "chunk": (16, 48, 48), "block": (32, 48, 96)},
    prepare=prepare,
    tools=(
        Tool("cristae in memory", partial(in_memory, tv=0.0), packages=OURS),
        Tool("cristae in memory, tv", partial(in_memory, tv=0.002), packages=OURS, runs=2),
        Tool("cristae in blocks", in_blocks, packages=(*OURS, "zarr"), runs=2),
        Tool("scikit-image", scikit_image, ("skimage",), "scikit-image", ("scikit-image", "scipy")),
    ),
    targets=(
        Target("cpu_s", "cristae in memory", ("scikit-image",), at_most=1.1),
        Target("added_mb", "cristae in memory", ("scikit-image",), at_most=1.0),
        Target("added_mb", "cristae in blocks", ("cristae in memory",)),
        Target("cpu_s", "cristae in blocks", ("cristae in memory",)),
    ),
    agree={"mean": 0.02},
    notes=(
        "All of them in float32 and by Fourier transforms, with the same PSF. In blocks of 64 x 256 x 256 cristae goes Zarr to Zarr in one "
        "process, and each block is computed with a halo of 40 pixels to each side of the plane. The image is dark at its rim, since "
        "scikit-image takes what lies beyond for dark and cristae does not."
    ),
)

if __name__ == "__main__":
    ask(QUESTION)
