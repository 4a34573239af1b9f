"""Unet: a small U-Net in which nothing looks further than its convolutions: a finite halo makes it exact.

Two convolutions a level, largest values on the way down, nearest values on the way up, what each level had beside what comes up.
Batch normalisation, where wanted, is one factor and one offset a channel once the network is trained, and looks at no voxel but its
own. There is no instance or group normalisation: those look at the whole tile, and no halo would be enough.

O. Ronneberger, P. Fischer, T. Brox, MICCAI 2015, doi:10.1007/978-3-319-24574-4_28. Where pooling is anisotropic, by the rule of
nnU-Net: an axis is pooled, and convolved over, once its voxels are less than twice the smallest.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from functools import cache
from math import prod
from typing import Any

from cristae.errors import InvalidConfiguration

FEATURES = (16, 32, 64)
MOST = 1024  # channels of a level
NORMS = ("batch", "none")


def hyper_of(
    voxel_um: Sequence[float],
    features: Sequence[int] = FEATURES,
    inputs: int = 1,
    outputs: int = 1,
    norm: str = "batch",
) -> dict[str, Any]:
    """The keywords of a U-Net for voxels of this size, (z, y, x) or (y, x)."""
    size, kernels, pools = list(voxel_um), [], []
    for level in range(len(features)):
        small = min(size)
        kernels.append([3 if s < 2 * small else 1 for s in size])
        if level < len(features) - 1:
            pools.append([2 if s < 2 * small else 1 for s in size])
            size = [s * p for s, p in zip(size, pools[-1], strict=True)]
    return {
        "inputs": inputs,
        "outputs": outputs,
        "features": [*features],
        "kernels": kernels,
        "pools": pools,
        "norm": norm,
    }


def checked(hyper: Mapping[str, Any], ndim: int) -> None:
    """Raise InvalidConfiguration where these are no keywords of a U-Net."""
    try:
        right = set(hyper) == {"inputs", "outputs", "features", "kernels", "pools", "norm"} and hyper["norm"] in NORMS
        levels = len(hyper["features"])
        right &= (len(hyper["kernels"]), len(hyper["pools"])) == (levels, levels - 1) and levels >= 1
        right &= all(len(k) == ndim and all(n in (1, 3, 5) for n in k) for k in hyper["kernels"])
        right &= all(len(p) == ndim and all(n in (1, 2, 3, 4) for n in p) for p in hyper["pools"])
        right &= all(type(n) is int and 0 < n <= MOST for n in (hyper["inputs"], hyper["outputs"], *hyper["features"]))
    except (TypeError, KeyError):
        right = False
    if not right:
        raise InvalidConfiguration(f"no U-Net over {ndim} axes has these hyper-parameters: {dict(hyper)}")


def stride(hyper: Mapping[str, Any]) -> tuple[int, ...]:
    """How far the input must move, on each axis, for the same output."""
    ndim = len(hyper["kernels"][0])
    return tuple(prod(p[axis] for p in hyper["pools"]) for axis in range(ndim))


def reach(hyper: Mapping[str, Any]) -> tuple[int, ...]:
    """How many voxels an output sees to each side at most: exact, by following intervals through the network."""
    return tuple(_reach(hyper, axis, s) for axis, s in enumerate(stride(hyper)))


def _reach(hyper: Mapping[str, Any], axis: int, step: int) -> int:
    kernels, pools = ([level[axis] for level in hyper[name]] for name in ("kernels", "pools"))

    def coming_down(level: int, low: int, high: int) -> tuple[int, int]:
        low, high = low - 2 * (kernels[level] // 2), high + 2 * (kernels[level] // 2)
        if level == 0:
            return low, high
        pool = pools[level - 1]
        return coming_down(level - 1, low * pool, high * pool + pool - 1)

    def going_up(level: int, low: int, high: int) -> tuple[int, int]:
        if level == len(pools):
            return coming_down(level, low, high)
        low, high = low - 2 * (kernels[level] // 2), high + 2 * (kernels[level] // 2)
        beside = coming_down(level, low, high)
        below = going_up(level + 1, low // pools[level], high // pools[level])
        return min(beside[0], below[0]), max(beside[1], below[1])

    seen = [(x, *going_up(0, x, x)) for x in range(step)]
    return max(max(x - low, high - x) for x, low, high in seen)


def convolutions(hyper: Mapping[str, Any]) -> Iterator[tuple[str, int, int, Sequence[int], int]]:
    """Every convolution: its name, channels in and out, kernel, and the voxels of the input that one of its outputs stands for."""
    features, kernels = hyper["features"], hyper["kernels"]
    coarse = [prod(prod(p) for p in hyper["pools"][:level]) for level in range(len(features))]
    before = hyper["inputs"]
    for level, n in enumerate(features):
        yield f"down.{level}.0", before, n, kernels[level], coarse[level]
        yield f"down.{level}.1", n, n, kernels[level], coarse[level]
        before = n
    for level in reversed(range(len(features) - 1)):
        n = features[level]
        yield f"up.{level}.0", before + n, n, kernels[level], coarse[level]
        yield f"up.{level}.1", n, n, kernels[level], coarse[level]
        before = n
    yield "head", before, hyper["outputs"], [1] * len(kernels[0]), 1


def work(hyper: Mapping[str, Any]) -> tuple[float, float]:
    """Multiplications a voxel of the input, and bytes a voxel of all that the convolutions give (float32)."""
    layers = list(convolutions(hyper))
    return (
        sum(i * o * prod(kernel) / coarse for _, i, o, kernel, coarse in layers),
        sum(4.0 * o / coarse for _, _, o, _, coarse in layers),
    )


def build(hyper: Mapping[str, Any], ndim: int) -> Any:
    """The network with fresh weights; (batch, inputs, *space) to logits (batch, outputs, *space)."""
    checked(hyper, ndim)
    return _network()(hyper)


@cache
def _network() -> Any:
    import torch
    from torch import nn
    from torch.nn import functional

    class UNet(nn.Module):  # type: ignore[misc]
        def __init__(self, hyper: Mapping[str, Any]) -> None:
            super().__init__()
            ndim = len(hyper["kernels"][0])
            conv, norm = ((nn.Conv2d, nn.BatchNorm2d), (nn.Conv3d, nn.BatchNorm3d))[ndim - 2]
            self.pool = (functional.max_pool2d, functional.max_pool3d)[ndim - 2]
            self.pools = [tuple(p) for p in hyper["pools"]]
            self.layers = nn.ModuleDict()
            for name, i, o, kernel, _ in convolutions(hyper):
                made = [conv(i, o, tuple(kernel), padding=tuple(k // 2 for k in kernel))]
                made += [norm(o)] if hyper["norm"] == "batch" and name != "head" else []
                self.layers[name.replace(".", "_")] = nn.Sequential(*made)

        def twice(self, way: str, level: int, x: Any) -> Any:
            for n in (0, 1):
                x = functional.leaky_relu(self.layers[f"{way}_{level}_{n}"](x), 0.01, inplace=True)
            return x

        def forward(self, x: Any) -> Any:
            beside = []
            for level, pool in enumerate(self.pools):
                x = self.twice("down", level, x)
                beside.append(x)
                x = self.pool(x, pool)
            x = self.twice("down", len(self.pools), x)
            for level in reversed(range(len(self.pools))):
                x = self.twice("up", level, torch.cat([beside.pop(), self.wider(x, self.pools[level])], 1))
            return self.layers["head"](x)

        def wider(self, x: Any, pool: tuple[int, ...]) -> Any:
            if not self.training:
                return functional.interpolate(x, scale_factor=tuple(map(float, pool)))
            # The gradient of `interpolate` is summed in any order on a GPU.
            for axis, n in enumerate(pool):
                x = x.repeat_interleave(n, axis + 2) if n > 1 else x
            return x

    return UNet


def folded(network: Any) -> Any:
    """A trained network whose convolutions also normalise: the same answer but for rounding. The network itself is changed."""
    from torch import nn

    for name, layer in network.layers.items():
        if len(layer) == 2:
            conv, norm = layer
            scale = norm.weight.double() / (norm.running_var.double() + norm.eps).sqrt()
            offset = norm.bias.double() + (conv.bias.double() - norm.running_mean.double()) * scale
            kernel = conv.weight.double() * scale.reshape(-1, *[1] * (conv.weight.ndim - 1))
            conv.weight = nn.Parameter(kernel.to(conv.weight.dtype), requires_grad=False)
            conv.bias = nn.Parameter(offset.to(conv.bias.dtype), requires_grad=False)
            network.layers[name] = nn.Sequential(conv)
    return network


def tensors(hyper: Mapping[str, Any]) -> dict[str, tuple[int, ...]]:
    """Name and shape of every weight, as the network calls them."""
    out: dict[str, tuple[int, ...]] = {}
    for name, i, o, kernel, _ in convolutions(hyper):
        layer = f"layers.{name.replace('.', '_')}"
        out |= {f"{layer}.0.weight": (o, i, *kernel), f"{layer}.0.bias": (o,)}
        if hyper["norm"] == "batch" and name != "head":
            out |= {f"{layer}.1.{n}": (o,) for n in ("weight", "bias", "running_mean", "running_var")}
            out[f"{layer}.1.num_batches_tracked"] = ()
    return out
