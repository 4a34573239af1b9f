"""GPU: which share of a device copy's bandwidth do the plain kernels reach, and do they agree with the CPU?

Bandwidth counts what an ideal kernel would move: every float32 voxel read once and written once.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from _inputs import VOXEL_UM, loaded, of_array, stored, tubes
from measuring import NotMeasured, Question, Target, Tool, Turn, ask

REPEATS = 5
CROP = (slice(0, 32), slice(0, 96), slice(0, 96))


def prepare(folder: Path, sizes: Mapping[str, Any]) -> None:
    image = tubes(sizes["tile"], sizes["tubes"])
    stored(folder / "image.zarr", of_array(image), image.shape, image.shape, "uint16")


def on_device(turn: Turn) -> Any:  # gpu only
    """The image on the GPU, float32, repeated to its full size."""
    from cristae.array import resolve_device, to_device
    from cristae.errors import InvalidConfiguration

    try:
        device = resolve_device("cuda")
    except InvalidConfiguration as reason:
        raise NotMeasured(str(reason)) from None
    tile = loaded(turn.inputs / "image.zarr").astype(np.float32)
    repeats = [n // t for n, t in zip(turn.sizes["shape"], tile.shape, strict=True)]
    return to_device(np.tile(tile, repeats), device)


def timed(turn: Turn, act: Callable[[Any], Any], image: Any) -> Mapping[str, Any]:  # gpu only
    """Seconds of one call among several, once kernels are compiled and memory is there."""
    import cupy

    act(image)
    cupy.cuda.Device().synchronize()
    with turn.clock():
        for _ in range(REPEATS):
            act(image)
        cupy.cuda.Device().synchronize()
    seconds = turn.figures["wall_s"] / REPEATS
    name = cupy.cuda.runtime.getDeviceProperties(cupy.cuda.Device().id)["name"].decode()
    return {"gb_per_s": 2 * image.nbytes / 1e9 / seconds, "device": name}


def copy(turn: Turn) -> Mapping[str, Any]:  # gpu only
    image = on_device(turn)
    out = image.copy()

    def act(array: Any) -> None:
        out[...] = array

    return timed(turn, act, image)


def stage(turn: Turn, name: str, words: Mapping[str, Any]) -> Mapping[str, Any]:  # gpu only
    """A stage on the GPU, and how far its result lies from the CPU's on a crop, over that one's range."""
    from cristae.array import to_host
    from cristae.filters import STAGES

    image = on_device(turn)
    act = STAGES[name](voxel_um=VOXEL_UM, **words)
    figures = timed(turn, act, image)
    there, here = to_host(act(image[CROP].copy())), act(np.ascontiguousarray(to_host(image[CROP])))
    return {**figures, "largest_difference": float(np.abs(there - here).max() / np.ptp(here))}


PACKAGES = ("cristae", "cupy-cuda12x", "cupy-cuda13x", "cucim-cu12", "cucim-cu13")
GAUSSIAN = partial(stage, name="gaussian", words={"sigma_um": 0.2})
RIDGE = partial(stage, name="ridge", words={"radius_um": [0.15, 0.2, 0.25, 0.3, 0.4], "gamma": 100})

QUESTION = Question(
    "gpu",
    "Gaussian and ridge on one GPU, float32, against a copy on the device",
    full={"shape": (128, 1024, 1024), "tile": (64, 256, 256), "tubes": 30},
    small={"shape": (32, 192, 192), "tile": (32, 96, 96), "tubes": 6},
    prepare=prepare,
    tools=(
        Tool("device copy", copy, ("cupy",), "cupy-cuda13x", PACKAGES),
        Tool("gaussian", GAUSSIAN, ("cupy",), "cupy-cuda13x", PACKAGES),
        Tool("ridge, 5 scales", RIDGE, ("cupy",), "cupy-cuda13x", PACKAGES),
    ),
    targets=(
        Target("gb_per_s", "gaussian", ("device copy",)),
        Target("gb_per_s", "ridge, 5 scales", ("device copy",)),
        Target("largest_difference", "gaussian", at_most=1e-5),
        Target("largest_difference", "ridge, 5 scales", at_most=1e-4),
    ),
    notes="Wall seconds are those of five calls. Bandwidth has no target; the share that is reached is written down.",
)

if __name__ == "__main__":
    ask(QUESTION)
