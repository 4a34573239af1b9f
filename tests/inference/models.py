"""Models: small networks whose weights are drawn from a seed, written where every process of a test finds them. No torch."""

from __future__ import annotations

import hashlib
import importlib.util
import os
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import replace
from math import prod
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from cristae.inference import unet
from cristae.inference.card import Card, written
from cristae.inference.network import card_of

LEARN = "the extra learn is not installed: torch"
WITHOUT_TORCH = importlib.util.find_spec("torch") is None
needs_torch = pytest.mark.skipif(WITHOUT_TORCH, reason=LEARN)
VOXEL_UM = {2: (0.13, 0.1), 3: (0.25, 0.11, 0.1)}


def weights(hyper: Mapping[str, Any], seed: int) -> dict[str, np.ndarray]:
    """Weights of a U-Net that let a signal through: normal, as wide as their fan-in asks."""
    rng = np.random.default_rng(seed)
    out: dict[str, np.ndarray] = {}
    for name, shape in unet.tensors(hyper).items():
        if name.endswith("num_batches_tracked"):
            out[name] = np.array(1, np.int64)
        elif len(shape) > 1:
            out[name] = (rng.normal(size=shape) * np.sqrt(2 / prod(shape[1:]))).astype(np.float32)
        elif name.endswith("var") or ".1.weight" in name:
            out[name] = rng.uniform(0.5, 1.5, shape).astype(np.float32)
        else:
            out[name] = rng.normal(0, 0.1, shape).astype(np.float32)
    return out


def tiny(
    ndim: int = 3,
    seed: int = 0,
    features: Sequence[int] = (2, 4),
    classes: Sequence[str] = ("mito",),
    how: Mapping[str, Any] = {"how": "standard"},
    folder: Path | None = None,
    **facts: Any,
) -> str:
    """The path of a model; the same one for the same words."""
    size = facts.pop("voxel_um", VOXEL_UM[ndim])
    hyper = unet.hyper_of(size, features, outputs=len(classes), norm=facts.pop("norm", "batch"))
    card = card_of("unet", hyper, voxel_um=size, classes=tuple(classes), normalise=dict(how), **facts)
    return stored(card, weights(hyper, seed), folder, seed)


def stored(card: Card, tensors: Mapping[str, np.ndarray], folder: Path | None = None, seed: int = 0) -> str:
    name = hashlib.sha256(repr((card, seed)).encode()).hexdigest()[:10]
    base = folder or Path(tempfile.gettempdir()) / f"cristae-models-{os.getuid()}"
    path = base / f"{name}.safetensors"
    if not path.exists():
        written(path, card, tensors)
    return str(path)


def identity(ndim: int, **facts: Any) -> str:
    """A model whose logits are its input: one convolution of a voxel with weight 1, and no activation but the sigmoid's."""
    hyper = {"inputs": 1, "outputs": 1, "features": [2], "kernels": [[3] * ndim], "pools": [], "norm": "none"}
    tensors = {name: np.zeros(shape, np.float32) for name, shape in unet.tensors(hyper).items()}
    middle = (1,) * ndim
    tensors["layers.down_0_0.0.weight"][(0, 0, *middle)] = 1
    tensors["layers.down_0_0.0.weight"][(1, 0, *middle)] = -1  # the negative half, which the activation would flatten
    tensors["layers.down_0_1.0.weight"][(0, 0, *middle)] = 1
    tensors["layers.down_0_1.0.weight"][(1, 1, *middle)] = 1
    # leaky: a positive v gives (v, -0.0001 v), a negative one (0.0001 v, -v)
    tensors["layers.head.0.weight"][0, :2] = np.reshape([1, -1], (2, *(1,) * ndim)) / 1.0001
    card = card_of("unet", hyper, voxel_um=VOXEL_UM[ndim], classes=("same",), **facts)
    return stored(card, tensors)


def with_card(path: str, folder: Path, name: str = "other.safetensors", **changes: Any) -> str:
    """The same weights under another card."""
    from cristae.inference.card import read_tensors

    card, tensors = read_tensors(path, Path(path).read_bytes())
    written(folder / name, replace(card, **changes), tensors)
    return str(folder / name)
