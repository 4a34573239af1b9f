"""Network: a model file becomes a function from a tile to probabilities. torch is imported inside, by whoever computes.

Two computations of one tile give the same bytes, on the same kind of processor: one tile at a time on a CPU, batches of one size on a
GPU, one thread, deterministic algorithms, weights that do not change. A process loads a model once.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from itertools import product
from math import prod
from pathlib import Path
from threading import Lock
from typing import Any

import numpy as np

from cristae.errors import InvalidConfiguration, InvalidInput, MissingExtra
from cristae.inference import unet
from cristae.inference.batches import LEAST_BYTES, at_once, in_batches
from cristae.inference.card import Card, contents, read_tensors, written
from cristae.inference.process import computing, exact_on_gpu, in_huge_pages


@dataclass(frozen=True)
class Architecture:
    """How a network is made from a card's keywords, and what is known of it before."""

    build: Callable[[Mapping[str, Any], int], Any]
    stride: Callable[[Mapping[str, Any]], int | tuple[int, ...]]  # one number for all axes
    inputs: Callable[[Mapping[str, Any]], tuple[Any, Any]]  # channels in and out, by the keywords
    folded: Callable[[Any], Any] = lambda network: network  # a trained one with less to compute
    together: tuple[int, ...] = ()  # axes of space with which channels that lie together are faster on a CPU


def _of_monai(name: str) -> Callable[[Mapping[str, Any], int], Any]:
    def build(hyper: Mapping[str, Any], ndim: int) -> Any:
        needed("monai")
        from monai.networks import nets

        # FlexibleUNet's encoders come with weights of ImageNet from the network; ours come from the file.
        facts = {"pretrained": False} if name == "FlexibleUNet" else {}
        return getattr(nets, name)(spatial_dims=ndim, **{**hyper, **facts})

    return build


def _halvings(hyper: Mapping[str, Any]) -> tuple[int, ...]:
    steps = [[s] if isinstance(s, int) else s for s in hyper["strides"]]
    axes = max(len(s) for s in steps)
    return tuple(prod(s[axis % len(s)] for s in steps) for axis in range(axes))


ARCHITECTURES: Mapping[str, Architecture] = {
    "unet": Architecture(
        unet.build, unet.stride, lambda h: (h.get("inputs"), h.get("outputs")), unet.folded, together=(2, 3)
    ),
    "BasicUNet": Architecture(
        _of_monai("BasicUNet"), lambda h: 16, lambda h: (h.get("in_channels", 1), h.get("out_channels", 2))
    ),
    "DynUNet": Architecture(_of_monai("DynUNet"), _halvings, lambda h: (h.get("in_channels"), h.get("out_channels"))),
    "FlexibleUNet": Architecture(
        _of_monai("FlexibleUNet"),
        lambda h: 32,
        lambda h: (h.get("in_channels"), h.get("out_channels")),
        together=(2,),
    ),
}
"""Networks by the name a card gives; all but the first are MONAI's."""


def needed(package: str) -> None:
    """Raise MissingExtra where a package of the extra `learn` is not installed."""
    from importlib.util import find_spec

    if find_spec(package) is None:
        raise MissingExtra(f"a network needs {package}, which is not installed; pip install 'cristae[learn]'")


def build_network(architecture: str, hyper: Mapping[str, Any], ndim: int) -> Any:
    """A network with fresh weights, from the current seed of torch.

    Raises
    ------
    MissingExtra : if torch, or MONAI for its networks, is not installed.
    InvalidConfiguration : if the name is not known or the keywords are not those of such a network.
    """
    if architecture not in ARCHITECTURES:
        raise InvalidConfiguration(f"there is no architecture {architecture}; there are {', '.join(ARCHITECTURES)}")
    needed("torch")
    in_huge_pages()
    try:
        return ARCHITECTURES[architecture].build(hyper, ndim)
    except (TypeError, ValueError, KeyError, AttributeError, IndexError, RuntimeError) as error:
        raise InvalidConfiguration(
            f"no {architecture} over {ndim} axes can be made with {dict(hyper)}: {' '.join(str(error).split())}"
        ) from None


def card_of(architecture: str, hyper: Mapping[str, Any], *, voxel_um: tuple[float, ...], **facts: Any) -> Card:
    """A card whose stride, reach and work are those of the architecture; `facts` are the other fields of Card.

    `tile` is 256 pixels, or 32 x 128 x 128 voxels, in whole strides, unless given.
    """
    if architecture not in ARCHITECTURES:
        raise InvalidConfiguration(f"there is no architecture {architecture}; there are {', '.join(ARCHITECTURES)}")
    ndim = len(voxel_um)
    if architecture == "unet":
        unet.checked(hyper, ndim)
    steps = ARCHITECTURES[architecture].stride(hyper)
    stride = (steps,) * ndim if isinstance(steps, int) else (steps * ndim)[:ndim]
    wanted = {2: (256, 256), 3: (32, 128, 128)}[ndim]
    known: dict[str, Any] = {"tile": tuple(max(1, round(t / s)) * s for t, s in zip(wanted, stride, strict=True))}
    if architecture == "unet":
        many, held = unet.work(hyper)
        known |= {"reach": unet.reach(hyper), "multiplications": many, "activation_bytes": held}
    return Card(architecture, hyper, ndim, voxel_um, **{"stride": stride, **known, **facts})


def save_model(path: str | Path, network: Any, card: Card) -> str:
    """Write a trained network and its card as one file; returns its sha256.

    The work of a network whose card does not say it is counted on one tile.

    Raises
    ------
    InvalidConfiguration : if the network is not the card's, or a weight is not finite.
    """
    if not str(path).endswith(".safetensors"):
        raise InvalidConfiguration(f"{path} should end in .safetensors, which is what a model is stored as")
    tensors = {name: tensor.detach().cpu().numpy() for name, tensor in network.state_dict().items()}
    _need_finite(tensors)
    _filled(path, build_network(card.architecture, card.hyper, card.ndim), tensors)
    if not card.multiplications:
        many, held = counted(network, card)
        card = replace(card, multiplications=many, activation_bytes=held)
    return written(path, card, tensors)


def counted(network: Any, card: Card) -> tuple[float, float]:
    """Multiplications, and bytes of all that convolutions give, per voxel of a tile; found by running one."""
    import torch

    total = [0.0, 0.0]

    def note(layer: Any, given: Any, out: Any) -> None:
        if isinstance(out, torch.Tensor) and getattr(layer, "weight", None) is not None and layer.weight.ndim > 2:
            turned = "Transpose" in type(layer).__name__
            total[0] += (
                (given[0].numel() * layer.weight[0].numel()) if turned else out.numel() * layer.weight[0].numel()
            )
            total[1] += out.numel() * 4

    hooks = [layer.register_forward_hook(note) for layer in network.modules()]
    try:
        with torch.inference_mode():
            network.eval()(torch.zeros(1, len(card.channels), *card.tile))
    finally:
        for hook in hooks:
            hook.remove()
    voxels = prod(card.tile)
    return total[0] / voxels, total[1] / voxels


PRECISIONS = ("single", "mixed")
HALVES: Mapping[str, str] = {"cuda": "float16"}
"""What "mixed" computes in, by device; a CPU computes in single precision."""


@dataclass(frozen=True)
class Network:
    """A model ready to compute; what it knows of its training is on the card."""

    card: Card
    module: Any
    device: str = "cpu"  # or "cuda"
    precision: str = "single"  # or "mixed"

    def __call__(self, tile: np.ndarray, mirror: bool = False) -> np.ndarray:
        """Probabilities of one tile.

        tile : (*space) float32, normalised; of as many axes as the card says
        mirror : the mean over all flips of the tile

        Returns (classes, *space) float32; with activation "none" whatever the network gives.
        """
        return self.together(tile[None], mirror)[0]

    def together(self, tiles: np.ndarray, mirror: bool = False) -> list[np.ndarray]:
        """Probabilities of several tiles, (tiles, *space), in batches as large as the device takes; each as of one tile.

        Raises
        ------
        MemoryError : if not even one tile fits into the device's memory.
        InvalidInput : if half precision is not enough for this network.
        """
        import torch

        space = tiles.shape[1:]
        flips = list(_flips(len(space))) if mirror else [[]]
        jobs = [(n, flipped) for n in range(len(tiles)) for flipped in flips]
        x = torch.from_numpy(np.ascontiguousarray(tiles, np.float32))[:, None]

        def turned(one: Any, flipped: list[int]) -> Any:
            return torch.flip(one, flipped) if flipped else one

        def run(some: Sequence[tuple[int, list[int]]], size: int) -> list[Any]:
            several = [turned(x[n : n + 1].to(self.device), flipped) for n, flipped in some]
            several += [torch.zeros_like(several[0])] * (size - len(some))
            found = self._activated(self._logits(torch.cat(several) if size > 1 else several[0]))
            return [turned(found[n : n + 1], flipped) for n, (_, flipped) in enumerate(some)]

        total: list[Any] = [None] * len(tiles)
        with computing(), torch.inference_mode():
            every = in_batches(run, jobs, space, self._bytes(space), self.device)
            for (n, _), found in zip(jobs, every, strict=True):
                total[n] = found if total[n] is None else total[n] + found
            out = [found[0].cpu().numpy() for found in total]
        return [found / np.float32(len(flips)) for found in out] if mirror else out

    def at_once(self, tile: tuple[int, ...], mirror: bool = False) -> int:
        """Tiles that fill one batch."""
        return max(1, at_once(self._bytes(tile), self.device) // (2 ** len(tile) if mirror else 1))

    def _bytes(self, tile: tuple[int, ...]) -> int:
        return int(max(self.card.activation_bytes, LEAST_BYTES) * prod(tile))

    def _logits(self, seen: Any) -> Any:
        """Single precision, in whatever the network computes."""
        import torch

        half = HALVES.get(self.device) if self.precision == "mixed" else None
        if half is None:
            return self.module(seen)
        with torch.autocast(self.device, getattr(torch, half)):
            found = self.module(seen).float()
        if not found.isfinite().all() and seen.isfinite().all():
            raise InvalidInput(
                f"precision: mixed is too little for this model: it goes beyond what {half} can hold; leave precision out"
            )
        return found

    def _activated(self, logits: Any) -> Any:
        if self.card.activation == "sigmoid":
            return logits.sigmoid()
        return logits.softmax(1) if self.card.activation == "softmax" else logits


def _flips(ndim: int) -> Iterator[list[int]]:
    """Axes that are turned around, of (batch, channels, *space), the tile as it is first."""
    for several in product((0, 1), repeat=ndim):
        yield [axis + 2 for axis, on in enumerate(several) if on]


def load_model(path: str | Path, sha256: str | None = None, device: str = "cpu") -> Network:
    """The model in a file, in evaluation mode; a process keeps the last few that it loaded.

    sha256 : of the file as it was planned with; another one is refused
    device : where it computes, "cpu" or "cuda"

    Raises
    ------
    InvalidInput : if there is no such file, it is cut short, foreign, a pickle, or not the one that was planned with.
    MissingExtra : if torch is not installed.
    """
    if sha256 is None:
        sha256 = hashlib.sha256(contents(path)).hexdigest()
    with _LOADING:
        return _loaded(str(path), sha256, device)


def require(path: str | Path) -> None:
    """Refuse, without torch and before anything else, what `load_model` would: for a U-Net of ours also weights that are not its own.

    Raises
    ------
    InvalidInput : if the file is no model, or its weights are not finite or not those of its network.
    MissingExtra : if a package is missing that the network needs.
    """
    card, tensors = read_tensors(path, contents(path))
    needed("torch")
    if card.architecture != "unet":
        needed("monai")
    try:
        _need_finite(tensors)
        if card.architecture == "unet":
            unet.checked(card.hyper, card.ndim)
            _need_own(path, unet.tensors(card.hyper), tensors)
    except InvalidConfiguration as error:
        raise InvalidInput(f"the model {path} cannot be used: {error}") from None


_LOADING = Lock()


@lru_cache(maxsize=4)
def _loaded(path: str, sha256: str, device: str) -> Network:
    data = contents(path)
    if (found := hashlib.sha256(data).hexdigest()) != sha256:
        raise InvalidInput(
            f"the model {path} is not the one this was planned with (sha256 {found[:12]}, not {sha256[:12]}); put that file back, or begin "
            "anew with --fresh"
        )
    card, tensors = read_tensors(path, data)
    try:
        network = build_network(card.architecture, card.hyper, card.ndim)
        inputs, outputs = ARCHITECTURES[card.architecture].inputs(card.hyper)
        if (inputs, outputs) != (len(card.channels), len(card.classes)):
            raise InvalidConfiguration(
                f"its network takes {inputs} channels and gives {outputs} classes, and its card names {len(card.channels)} and "
                f"{len(card.classes)}"
            )
        _need_finite(tensors)
        _filled(path, network, tensors)
    except InvalidConfiguration as error:
        raise InvalidInput(f"the model {path} cannot be used: {error}") from None
    if device != "cpu":
        exact_on_gpu()
    ready = ARCHITECTURES[card.architecture].folded(network.eval().requires_grad_(False))
    return Network(card, laid_out(ready, card, device), device)


def laid_out(network: Any, card: Card, device: str) -> Any:
    """A network on a device, its weights in the order that is fastest there: the answer differs by rounding alone."""
    import torch

    if device == "cpu" and card.ndim in ARCHITECTURES[card.architecture].together:
        network = network.to(memory_format=torch.channels_last if card.ndim == 2 else torch.channels_last_3d)
    return network.to(device)


def _need_finite(tensors: Mapping[str, np.ndarray]) -> None:
    bad = [name for name, array in tensors.items() if array.dtype.kind == "f" and not np.isfinite(array).all()]
    if bad:
        raise InvalidConfiguration(f"its {bad[0]} is not finite everywhere; train again")


def _need_own(path: str | Path, wanted: Mapping[str, tuple[int, ...]], tensors: Mapping[str, np.ndarray]) -> None:
    given = {name: array.shape for name, array in tensors.items()}
    if wanted != given:
        name = next(n for n in sorted({*wanted, *given}) if wanted.get(n) != given.get(n))
        raise InvalidConfiguration(
            f"{Path(path).name} and its card do not belong together: {name} is {given.get(name, 'not there')}, and the network wants "
            f"{wanted.get(name, 'none such')}"
        )


def _filled(path: str | Path, network: Any, tensors: Mapping[str, np.ndarray]) -> None:
    """Weights into a network that must want just these."""
    import torch

    _need_own(path, {name: tuple(t.shape) for name, t in network.state_dict().items()}, tensors)
    # A copy: the bytes of a file are read-only.
    network.load_state_dict({name: torch.from_numpy(array.copy()) for name, array in tensors.items()})
