"""Segment: a trained network as a stage: an image becomes the probability of one class, tile by tile, with no tile to be seen."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from math import prod
from typing import Any

import numpy as np

from cristae.array import Array, library, namespace, to_host
from cristae.blocks.measure import Answer, Scope
from cristae.blocks.stage import At, Cost, Spec, Stage
from cristae.errors import InvalidConfiguration
from cristae.inference.batches import Together
from cristae.inference.blend import HELD_BYTES, blended
from cristae.inference.card import Card, read_card
from cristae.inference.named import model_path
from cristae.inference.network import PRECISIONS, load_model
from cristae.inference.normalisation import brightness
from cristae.inference.tiles import Tiling, is_number, roomy, tiling_of

SCOPES = ("frame", "image", "collection")
VOXEL_TOLERANCE = 0.1
"""How far a voxel may be from those a network was trained on, as a share."""

NS_PER_MULTIPLICATION = 0.022
"""Of one core, by a U-Net of ours; MONAI's take twice as long. Measured on networks of 16 to 96 channels, in the plane and in space."""

TORCH_BYTES, MONAI_BYTES = 300 << 20, 340 << 20
"""What importing them takes, and the first convolution."""

LAYERS, WORKSPACE_BYTES = 1.4, 110 << 20
"""What a U-Net of ours holds, as a part of all that its convolutions give, and beside it: 1.06 to 1.33, tiles of 65 000 to 2 400 000 voxels."""

MONAI_LAYERS, MONAI_WORKSPACE_BYTES = 2.0, 150 << 20
"""Of other networks, whose convolutions may need another layout: at most this in the plane."""


def segment(
    *,
    model: str,
    voxel_um: tuple[float, ...],
    of: str | None = None,
    tile: Sequence[int] | None = None,
    overlap: float | None = None,
    blend: str = "gaussian",
    mirror: bool = False,
    precision: str = "single",
    over: Scope = "frame",
    skip_below: float | None = None,
    dtype: str = "float32",
) -> Stage:
    """The probability of one class in every voxel, by a trained network over tiles that overlap.

    Parameters
    ----------
    model : the name of a model that comes with cristae (`cristae models` lists them), or a `.safetensors` file that
        `cristae.inference.save_model` wrote; it says what the network is, and how its input must look
    voxel_um : voxel size, (z, y, x) or (y, x); within 10 % of what the network was trained on
    of : the class, by name; may be left out where the model has one
    tile : voxels that are computed as one; unless given the model's own, or larger where the network sees further than half of it. No
        longer than the image where the network sees a finite way. A network of the plane takes (y, x) and sees a stack slice by slice
    overlap : of neighbouring tiles, as a share of a tile; 0.5 unless given. With `crop` it follows from what the network sees
    blend : "gaussian" and "hann" weigh tiles down towards their borders, and hide seams; "crop" takes from each only what no border
        has touched, and is exact for a network that sees a finite way
    mirror : take the mean over all flips of each tile: slower by 4 in the plane, by 8 in space
    precision : "mixed" lets a GPU compute in float16 wherever torch deems it enough; tiles are weighed and added up in float32 all the
        same. A CPU computes in single precision, whatever is said
    over : what is normalised together, where the model wants it: each "frame", each "image", or the whole "collection"
    skip_below : tiles without a voxel this bright, in units of the image, are 0 without being computed; none are, unless given
    dtype : of the image

    Returns
    -------
    A stage from any real image to float32 from 0 to 1. What the network says is the same bytes on every block grid, on one kind of
    processor. Tiles: F. Isensee et al., Nat. Methods 18, 203 (2021), doi:10.1038/s41592-020-01008-z.

    Raises
    ------
    InvalidInput : if the file is no model, is cut short or is a pickle.
    InvalidConfiguration : if there is no model of that name, it is for other images, or a parameter makes no sense.
    """
    if not isinstance(model, str) or not model:
        raise InvalidConfiguration(
            f"segment: model is {model!r}, but must be a name or the path of a .safetensors file"
        )
    if model.endswith(".py"):
        raise InvalidConfiguration(
            f"segment: {model} is a program, not a model; a function of your own is the step python"
        )
    path = model_path(model)
    card, sha256 = read_card(path)
    name = path.name
    _refuse_other(card, name, voxel_um)
    which = _class(card, name, of)
    if over not in SCOPES:
        raise InvalidConfiguration(f"segment: over {over!r} is not one of {', '.join(SCOPES)}")
    if not isinstance(mirror, bool):
        raise InvalidConfiguration(f"segment: mirror is {mirror!r}, but must be true or false")
    if precision not in PRECISIONS:
        raise InvalidConfiguration(f"segment: precision is {precision!r}, but must be one of {', '.join(PRECISIONS)}")
    if skip_below is not None and not is_number(skip_below):
        raise InvalidConfiguration(f"segment: skip_below is {skip_below!r}, but must be a number in units of the image")
    tiling = tiling_of(
        "segment",
        len(voxel_um),
        tile if tile is not None else roomy(card.tile, card.reach, card.stride, blend),
        overlap,
        blend,
        card.stride,
        card.reach,
        name,
    )
    params: dict[str, Any] = {
        "model": name,
        "model_digest": sha256,
        "of": card.classes[which],
        "tile": tiling.tile,
        "blend": tiling.blend,
        **({"overlap": tiling.overlap} if tiling.blend != "crop" or overlap is not None else {}),
        "mirror": mirror,
        **({"precision": precision} if precision != "single" else {}),
        **({"skip_below": skip_below} if skip_below is not None else {}),
    }
    asks = {}
    if card.normalise["how"] in ("standard", "percentiles"):
        asks = {"brightness": brightness(card.normalise, ndim=len(voxel_um), dtype=dtype, scope=over)}
        params["over"] = over
    return Stage(
        "segment",
        params,
        partial(
            _probability,
            path=str(path.absolute()),
            sha256=sha256,
            which=which,
            tiling=tiling,
            mirror=mirror,
            precision=precision,
            fixed=_fixed(card.normalise),
            skip_below=skip_below,
        ),
        tiling.halo,
        output=_zero_to_one,
        cost=_cost(card, tiling, mirror, path.stat().st_size),
        asks=asks,
        boundary="ends",
    )


def _probability(
    array: Array,
    *,
    at: At,
    answers: Mapping[str, Answer],
    path: str,
    sha256: str,
    which: int,
    tiling: Tiling,
    mirror: bool,
    precision: str,
    fixed: tuple[float, float],
    skip_below: float | None,
) -> Array:
    network = load_model(path, sha256, "cuda" if library(array) == "cupy" else "cpu")
    tiling = tiling.fitted(at.grid.shape)
    network = replace(network, precision=precision)
    space = tiling.tile[-network.card.ndim :]
    found = answers.get("brightness")
    shift, scale = (found.number("shift"), found.number("scale")) if found is not None else fixed

    def dark(tile: np.ndarray) -> np.ndarray | None:
        return np.zeros(tile.shape, np.float32) if skip_below is not None and not (tile >= skip_below).any() else None

    def predict(tiles: Sequence[np.ndarray]) -> list[np.ndarray]:
        with np.errstate(all="ignore"):
            seen = [((tile.astype(np.float64) - shift) * scale).astype(np.float32).reshape(space) for tile in tiles]
        every = [network(seen[0], mirror)] if len(seen) == 1 else network.together(np.stack(seen), mirror)
        # A copy: a view would keep the other classes too.
        return [np.array(one[which]).reshape(tiling.tile) for one in every]

    key = (sha256, network.device, precision, which, tiling.tile, mirror, shift, scale, skip_below)
    together = Together(network.at_once(space, mirror), predict, dark)
    out = blended(to_host(array), at, tiling, together, key)
    np.clip(out, 0, 1, out=out)  # a mean of ones may be rounded to a little more
    return namespace(array).asarray(out)


def _fixed(how: Mapping[str, Any]) -> tuple[float, float]:
    return (float(how["low"]), 1 / (float(how["high"]) - float(how["low"]))) if how["how"] == "range" else (0.0, 1.0)


def _zero_to_one(spec: Spec) -> Spec:
    return replace(spec, dtype="float32", values=(0.0, 1.0))


def _refuse_other(card: Card, name: str, voxel_um: tuple[float, ...]) -> None:
    """A model that was made for other images."""
    if card.activation == "none":
        raise InvalidConfiguration(
            f"segment: what {name} gives is no probability (its activation is none); use another model"
        )
    if len(card.channels) != 1:
        raise InvalidConfiguration(
            f"segment: {name} wants {len(card.channels)} channels ({', '.join(card.channels)}), and a step works on one; use another model"
        )
    if card.ndim > len(voxel_um):
        raise InvalidConfiguration(
            f"segment: {name} is for stacks, and the image is one plane; use a model of the plane"
        )
    seen = voxel_um[-card.ndim :]
    if any(abs(v / c - 1) > VOXEL_TOLERANCE for v, c in zip(seen, card.voxel_um, strict=True)):
        raise InvalidConfiguration(
            f"segment: {name} was trained on voxels of {_um(card.voxel_um)} um and the image has {_um(seen)}, which is more than "
            f"{VOXEL_TOLERANCE:.0%} away; use a model for such voxels, or resample the image to those first, as a pipeline does by itself"
        )


def _class(card: Card, name: str, of: str | None) -> int:
    if of is None and len(card.classes) == 1:
        return 0
    if of not in card.classes:
        said = "of is not given" if of is None else f"of is {of!r}"
        raise InvalidConfiguration(f"segment: {said}, and {name} knows {', '.join(card.classes)}; name one of them")
    return card.classes.index(of)


def _cost(card: Card, tiling: Tiling, mirror: bool, file_bytes: int) -> Cost:
    """Per voxel of the box that is read; nothing is counted on tiles that blocks share being kept."""
    ours = card.architecture == "unet"
    flips = 2**card.ndim if mirror else 1
    each = card.multiplications * NS_PER_MULTIPLICATION * (1 if ours else 2)
    ns = max(each, 10.0) * tiling.visits_of_read * flips
    layers, beside = (LAYERS, WORKSPACE_BYTES) if ours else (MONAI_LAYERS, MONAI_WORKSPACE_BYTES)
    one = prod(tiling.tile) * (layers * card.activation_bytes + 16.0) + beside
    library = TORCH_BYTES + (0 if ours else MONAI_BYTES)
    return Cost(4.0, ns, one, library + 3.0 * file_bytes + HELD_BYTES)


def _um(lengths: Sequence[float]) -> str:
    return " x ".join(f"{n:g}" for n in lengths)
