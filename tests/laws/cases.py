"""Cases: what the laws are tried on. A stage or measure without a case here cannot be registered: a test says so.

A case is a builder, the parameters a user might give, and how to draw its input. To add an operation to the laws, add a line
to STAGES or MEASURES; the measures that a stage asks for join by themselves.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from inference.models import tiny
from scipy import ndimage
from scipy.interpolate import RegularGridInterpolator

from cristae.blocks.measure import Answer, Measure
from cristae.blocks.stage import Spec, Stage
from cristae.evaluation.overlap import overlaps
from cristae.evaluation.planes import planes
from cristae.evaluation.rays import rays
from cristae.filters import (
    closing,
    difference_of_gaussians,
    flatfield,
    gaussian,
    gradient,
    heights,
    median,
    opening,
    resample,
    ridge,
    threshold,
    top_hat,
)
from cristae.filters.histogram import histogram
from cristae.filters.pyramid import downsample
from cristae.grid import Shape
from cristae.inference import python, segment
from cristae.labels import fill_holes, flood, label, split, within
from cristae.morphology import finish_rows
from cristae.morphology.intensity import intensity
from cristae.morphology.moments import index, shape
from cristae.morphology.surface import surface, topology, windows
from cristae.optics import richardson_lucy, wiener
from cristae.optics.microscope import microscope
from cristae.pipeline.pointing import point
from cristae.pipeline.projection import projections
from cristae.simulation.cells import Scene
from cristae.simulation.exposure import cell_image, cell_runs, cell_truth
from cristae.simulation.records import cell_objects
from cristae.simulation.tiles import Tiles, tile, tile_objects, tile_truth

VOXEL_UM = {2: (0.13, 0.1), 3: (0.25, 0.11, 0.1)}

Arrays = list[np.ndarray]
Draw = Callable[[Shape, str, int], Arrays]
Columns = Mapping[str, np.ndarray]


@dataclass(frozen=True)
class Case:
    """One stage or measure as the laws see it."""

    builder: Callable[..., Stage | Measure]
    params: Mapping[str, Any]
    draw: Draw
    ndim: int = 3
    dtype: str = "uint16"  # of the last input
    facts: tuple[str, ...] = ("voxel_um",)  # what the engine tells the builder: voxel_um, dtype, ndim
    asked: str = ""  # the name of a measure that the built stage or measure asks for, and that is meant instead
    shown: Callable[[Case, Columns, Shape], Columns] | None = None  # what of an answer no block grid may show
    reference: Callable[..., np.ndarray] | None = None  # the whole result, by somebody else's code
    reference_tolerance: float = 0.0
    library_tolerance: float = 0.0  # largest difference between array libraries
    slack: str = ""  # why a voxel less of halo shows in no input
    shape: Shape | None = None  # where the volume is part of the parameters
    weighed: bool = False  # whether the law of memory, which takes seconds, is tried on it too
    extent: Shape = (9, 13, 40)  # largest volume that the laws draw
    wants: str = ""  # a package that not everyone has installed

    @property
    def voxel_um(self) -> tuple[float, ...]:
        return VOXEL_UM[self.ndim]

    @property
    def name(self) -> str:
        """As it is registered."""
        return self.asked or self.builder.__name__

    def __str__(self) -> str:
        said = ",".join(f"{k}={getattr(v, '__name__', v)}" for k, v in self.params.items()).replace(" ", "")
        return f"{self.name}-{self.ndim}d-{self.dtype}" + (f"-{said}" if said else "")

    def build(self) -> Stage | Measure:
        known = {"voxel_um": self.voxel_um, "dtype": self.dtype, "ndim": self.ndim}
        built = self.builder(**self.params, **{name: known[name] for name in self.facts})
        return dict(asked_by(built))[self.asked] if self.asked else built

    def arrays(self, shape: Shape, seed: int) -> Arrays:
        return self.draw(shape, self.dtype, seed)

    def columns(self, answer: Answer, shape: Shape) -> Columns:
        """The part of an answer that must not depend on the grid."""
        return self.shown(self, answer.arrays, shape) if self.shown else answer.arrays


def asked_by(fact: Stage | Measure) -> Iterator[tuple[str, Measure]]:
    """Every measure that `fact` asks for, and what those ask for, by their names."""
    for measure in fact.asks.values():
        yield measure.name, measure
        yield from asked_by(measure)


# ---------------------------------------------------------------------------------------------------- inputs


def image(shape: Shape, dtype: str, seed: int) -> Arrays:
    """Photons on a dark ground; every third is a few bright points, where a filter shows how far it reaches."""
    rng = np.random.default_rng(seed)
    found = rng.gamma(1.0, 40.0, shape)
    if seed % 3 == 2:
        found = np.where(rng.random(shape) < 0.03, 250.0, 0.0)
    return [_as(found, dtype)]


def signed(shape: Shape, dtype: str, seed: int) -> Arrays:
    """Values on both sides of zero, over a range that is wide for the type."""
    width = 2e8 if np.dtype(dtype).itemsize > 2 else 2000
    return [np.random.default_rng(seed).normal(0, width, shape).astype(dtype)]


def mask(shape: Shape, dtype: str, seed: int) -> Arrays:
    """Foreground from nothing to nearly everything, ragged or in long tubes."""
    rng = np.random.default_rng(seed)
    density = (0.05, 0.2, 0.35, 0.6, 0.95, 0.0)[seed % 6]
    if seed % 2:
        return [_as(rng.random(shape) < density, dtype)]
    smooth = ndimage.gaussian_filter(rng.normal(size=shape), 1.0)
    return [_as(smooth > np.quantile(smooth, 1 - density), dtype)]


def labels(shape: Shape, dtype: str, seed: int) -> Arrays:
    """Objects that touch each other and every border; ids with gaps, and one that no float32 holds."""
    rng = np.random.default_rng(seed)
    names = np.array([0, 0, 0, 1, 2, 7, 200, 255 if dtype == "uint8" else 2**24 + 1])
    return [rng.choice(names, shape).astype("uint8" if dtype == "uint8" else "uint32")]


def values(shape: Shape, dtype: str, seed: int) -> Arrays:
    """Patches of a few values, for labels that join equal ones."""
    return [np.random.default_rng(seed).integers(0, 4, shape).astype(dtype)]


def labels_and_image(shape: Shape, dtype: str, seed: int) -> Arrays:
    """Labels, and a channel of `dtype` whose spread is small beside its mean."""
    rng = np.random.default_rng(seed)
    return [*labels(shape, "uint32", seed), _as(rng.normal(30000, 50, shape), dtype)]


def prediction_and_truth(shape: Shape, dtype: str, seed: int) -> Arrays:
    """Labels, and others that are mostly the same a voxel aside; some of 64 bits."""
    rng = np.random.default_rng(seed)
    (pred,) = labels(shape, "uint32", seed)
    truth = np.where(rng.random(shape) < 0.8, np.roll(pred, 1, axis=-1), 3).astype(dtype)
    return [pred, truth + (truth == 7) * np.uint64(2**63) if dtype == "uint64" else truth]


def mask_and_labels(shape: Shape, dtype: str, seed: int) -> Arrays:
    """A mask, and labels that hold it."""
    return [*mask(shape, dtype, seed), *labels(shape, "uint32", seed)]


def mask_and_image(shape: Shape, dtype: str, seed: int) -> Arrays:
    """A mask, and an image that it shows a part of."""
    return [*mask(shape, "bool", seed), *image(shape, dtype, seed)]


def lit(shape: Shape, dtype: str, seed: int) -> Arrays:
    """An image that is dark nowhere."""
    return [image(shape, dtype, seed)[0] // 2 + np.dtype(dtype).type(20)]


def image_and_light(shape: Shape, dtype: str, seed: int) -> Arrays:
    """An image, and how brightly each of its voxels was lit."""
    light = np.random.default_rng(seed).uniform(0.5, 1.5, shape).astype("float32")
    return [light, *image(shape, dtype, seed)][::-1]


def landscape(shape: Shape, dtype: str, seed: int) -> Arrays:
    """What a mask shows of an image with a summit everywhere, in every other one several of a height."""
    rng = np.random.default_rng(seed)
    found = rng.integers(0, 256 if seed % 2 else 12, shape)
    return [np.where(rng.random(shape) < 0.9, found, np.finfo("float32").min).astype(dtype)]


def chances(shape: Shape, dtype: str, seed: int) -> Arrays:
    """A probability that is 1 over wide plains and noisy at their rims, in every other one of few values that are often equal."""
    rng = np.random.default_rng(seed)
    smooth = ndimage.gaussian_filter(rng.normal(size=shape), 1.0)
    found = np.clip(0.5 + 2.5 * smooth + rng.normal(0, 0.05, shape), 0, 1)
    return [(found if seed % 2 else np.round(found * 5) / 5).astype(dtype)]


def faint(shape: Shape, dtype: str, seed: int) -> Arrays:
    """An image whose brightest voxel shows 100, for stages whose tolerance is stated for that."""
    return [np.minimum(found, 100) for found in image(shape, dtype, seed)]


def dark(shape: Shape, dtype: str, seed: int) -> Arrays:
    """For measures that know their objects without looking."""
    return [np.zeros(shape, dtype)]


def nothing(shape: Shape, dtype: str, seed: int) -> Arrays:
    """A stage that renders takes no input."""
    return []


def _as(found: np.ndarray, dtype: str) -> np.ndarray:
    if dtype == "bool":
        return found > 0
    if np.dtype(dtype).kind in "iu":
        found = np.clip(found, 0, np.iinfo(dtype).max)
    return found.astype(dtype)


# --------------------------------------------------------------- what of an answer does not depend on the grid


def table(case: Case, answer: Columns, shape: Shape) -> Columns:
    """Finished columns; lengths that are roots of rounding errors as their squares."""
    out = {}
    for group in _GROUPS[case.build().name]:
        out |= finish_rows(group, answer["rows"], voxel_um=case.voxel_um, shape=shape)
    for name in [n for n in out if n.startswith("axis") or n == "intensity_std"]:
        out[f"{name} squared"] = out.pop(name) ** 2
    return out


_GROUPS = {
    "index": ["index"],
    "shape": ["shape"],
    "surface": ["surface"],
    "topology": ["topology"],
    "surface_topology": ["surface"],
    "intensity": ["intensity"],
    "shape_intensity": ["shape", "intensity"],
}


def foreground(case: Case, answer: Columns, shape: Shape) -> Columns:
    """Of provisional labels: how many voxels they have together."""
    return {"voxels": answer["voxels"].sum(dtype=np.int64)}


def count_of_objects(case: Case, answer: Columns, shape: Shape) -> Columns:
    """Of canonical ids: which there are."""
    return {"objects": answer["objects"], "ids": np.unique(answer["map"][answer["map"] > 0]).astype(np.int64)}


def nothing_of_blocks(case: Case, answer: Columns, shape: Shape) -> Columns:
    """Of provisional components of the ground nothing is the same for all grids; what they lead to is held by the stage."""
    return {"some": np.array(bool(len(answer["offset"]) > 1))}


# ------------------------------------------------------------------------------------------------ references


def gaussian_by_scipy(case: Case, array: np.ndarray) -> np.ndarray:
    sigma = [case.params["sigma_um"] / v for v in case.voxel_um]
    return ndimage.gaussian_filter(
        array.astype(np.float64), sigma, mode="reflect", truncate=case.params.get("truncate", 4.0)
    )


def evened_by_scipy(case: Case, array: np.ndarray) -> np.ndarray:
    """Means of squares by a plain loop, and the straight lines between their middles by scipy."""
    plane = array.astype(np.float64).mean(axis=0) if array.ndim == 3 else array.astype(np.float64)
    counts = [max(1, min(n, round(16 * n / max(plane.shape)))) for n in plane.shape]
    edges = [[n * k // count for k in range(count + 1)] for n, count in zip(plane.shape, counts, strict=True)]
    spans = [list(itertools.pairwise(e)) for e in edges]
    light = np.array([[plane[a:b, c:d].mean() for c, d in spans[1]] for a, b in spans[0]])
    light /= light.mean()
    middles = [np.array([(a + b - 1) / 2 for a, b in s]) for s in spans]
    for axis, count in enumerate(counts):
        if count == 1:  # the interpolator wants two
            light, middles[axis] = np.repeat(light, 2, axis), middles[axis] + np.array([0, 1])
    between = RegularGridInterpolator(middles, light, bounds_error=False, fill_value=None)
    lit = between(np.stack(np.mgrid[: plane.shape[0], : plane.shape[1]], -1).reshape(-1, 2)).reshape(plane.shape)
    return array / np.maximum(lit, 0.05)


def bands_by_scipy(case: Case, array: np.ndarray) -> np.ndarray:
    low, high = ([case.params[f"{n}_sigma_um"] / v for v in case.voxel_um] for n in ("low", "high"))
    array = array.astype(np.float64)
    return ndimage.gaussian_filter(array, low, mode="reflect") - ndimage.gaussian_filter(array, high, mode="reflect")


def labels_by_scipy(case: Case, array: np.ndarray) -> np.ndarray:
    structure = ndimage.generate_binary_structure(array.ndim, case.params.get("connectivity") or array.ndim)
    return ndimage.label(array, structure)[0]


def cells_by_hand(case: Case, array: np.ndarray) -> np.ndarray:
    """The mean of each cell; numpy's round, like the stage's, goes half to even."""
    factors = case.params["factors"]
    out = np.empty([-(-n // f) for n, f in zip(array.shape, factors, strict=True)])
    for at in np.ndindex(out.shape):
        out[at] = array[tuple(slice(i * f, (i + 1) * f) for i, f in zip(at, factors, strict=True))].mean(dtype=float)
    return out.round() if array.dtype.kind in "iu" else out


def first_by_hand(case: Case, array: np.ndarray) -> np.ndarray:
    return array[tuple(slice(None, None, f) for f in case.params["factors"])]


def by_torch(case: Case, array: np.ndarray) -> np.ndarray:
    """Tents one axis after the other: torch has them for planes, and each axis may be one of a plane."""
    import torch

    found = array.astype(np.float64)
    for axis, n in enumerate(case.build().output(Spec(array.shape, array.dtype.name, case.voxel_um)).shape):
        lines = torch.from_numpy(np.moveaxis(found, axis, -1).reshape(1, 1, -1, found.shape[axis]))
        size = (lines.shape[2], n)
        turned = torch.nn.functional.interpolate(
            lines, size=size, mode="bilinear", antialias=True, align_corners=False
        ).numpy()
        others = [k for a, k in enumerate(found.shape) if a != axis]
        found = np.moveaxis(turned.reshape(*others, n), -1, axis)
    return found.astype(np.float32)


def nearest_by_hand(case: Case, array: np.ndarray) -> np.ndarray:
    made = case.build().output(Spec(array.shape, array.dtype.name, case.voxel_um)).shape
    middles = [
        ((np.arange(m) + 0.5) * n / m - 0.5 + 1e-9).round().astype(int) for n, m in zip(array.shape, made, strict=True)
    ]
    return array[np.ix_(*middles)]


def by_skimage(case: Case, array: np.ndarray) -> np.ndarray:
    from skimage import filters

    return array > getattr(filters, f"threshold_{case.params['method']}")(array)


def local_by_scipy(case: Case, array: np.ndarray) -> np.ndarray:
    sides = [2 * int(case.params["radius_um"] / v + 1e-9) + 1 for v in case.voxel_um]
    return array > ndimage.uniform_filter(array.astype(np.float64), sides, mode="reflect") + case.params["offset"]


def local_by_opencv(case: Case, array: np.ndarray) -> np.ndarray:
    """As the manual of OpenCV's adaptiveThreshold says it: src > T, T the weighted mean of blockSize voxels less C."""
    mean = array.astype(np.float64)
    for axis, voxel in enumerate(case.voxel_um):
        side = 2 * int(case.params["radius_um"] / voxel + 1e-9) + 1  # getGaussianKernel(blockSize, 0)
        kernel = np.exp(-((np.arange(side) - (side - 1) / 2) ** 2) / (2 * (0.3 * ((side - 1) * 0.5 - 1) + 0.8) ** 2))
        mean = ndimage.convolve1d(mean, kernel / kernel.sum(), axis, mode="reflect")
    c = -case.params["offset"]
    return array > mean - c


def by_scipy_with_a_ball(case: Case, array: np.ndarray) -> np.ndarray:
    radius = case.params["radius_um"]
    sides = [np.arange(-int(radius / v), int(radius / v) + 1) * v for v in case.voxel_um]
    ball = sum(x**2 for x in np.meshgrid(*sides, indexing="ij")) <= radius**2
    name = {
        "opening": "grey_opening",
        "closing": "grey_closing",
        "top_hat": "white_tophat",
        "median": "median_filter",
        "dilated": "grey_dilation",
        "eroded": "grey_erosion",
    }
    values = array.view(np.uint8) if array.dtype == bool else array
    return getattr(ndimage, name[case.builder.__name__])(values, footprint=ball, mode="reflect").astype(array.dtype)


def edges_by_scipy(case: Case, array: np.ndarray) -> np.ndarray:
    """Of whole numbers that hold any difference."""
    wide = array.astype(np.int64) if array.dtype.kind in "biu" else array
    high, low = (by_scipy_with_a_ball(replace(case, builder=b), wide) for b in (dilated, eroded))
    return (high - low).astype(array.dtype.name.replace("int", "uint") if array.dtype.kind == "i" else array.dtype)


def dilated() -> None:
    """A name that `by_scipy_with_a_ball` knows."""


def eroded() -> None:
    """Another."""


def filled_by_scipy(case: Case, array: np.ndarray) -> np.ndarray:
    structure = ndimage.generate_binary_structure(array.ndim, case.params.get("connectivity", 1))
    return ndimage.binary_fill_holes(array, structure)


# -------------------------------------------------------------------------------------------------- the cases


def _each(builder: Callable[..., Any], params: Mapping[str, Any], draw: Draw, kinds: str, **facts: Any) -> list[Case]:
    """One case for each "dimensions dtype" in `kinds`, such as "3 uint16, 2 float32"."""
    pairs = (kind.split() for kind in kinds.split(","))
    return [Case(builder, params, draw, int(n), dtype, **facts) for n, dtype in pairs]


IMAGES = "3 uint16, 3 float32, 2 uint8"
WEIGHED: dict[str, Any] = {"weighed": True}
RIM = "the extreme of all lies at the rim of the ball in few inputs"
THRESHOLD: dict[str, Any] = {"facts": ("voxel_um", "dtype"), "weighed": True}
BALL: dict[str, Any] = {**THRESHOLD, "reference": by_scipy_with_a_ball}
ROWS: dict[str, Any] = {"shown": table, "weighed": True}
RADII = {"min": 0.15, "max": 0.3, "scales": 2}
BEAD = str(Path(__file__).parents[1] / "optics" / "bead.ome.tif")
TENT: dict[str, Any] = {"reference_tolerance": 1e-4, "weighed": True, "wants": "torch"}
BLURRED: dict[str, Any] = {"library_tolerance": 1e-2}

SCENES = [
    (Scene("cell-epi", (30, 60, 90), 3, (0.3, 0.15, 0.15), contacts=0.7, crossings=0.3), "mito"),
    (Scene("cell-oil", (40, 50, 270), 4, (0.2, 0.1, 0.1)), "lysosome"),
    (Scene("cell-rich", (40, 80, 70), 6, (0.2, 0.15, 0.15)), "mito"),
    (Scene("cell-rich", (20, 80, 70), 6, (0.3, 0.2, 0.2)), "cell"),
    (Scene("cell-confocal", (33, 70, 60), 5, (0.3, 0.2, 0.2)), "nucleus"),
]
OWN = str(Path(__file__).parents[1] / "inference" / "own.py")
VOLUME = "which tiles meet a block is the volume's affair; a tile reaches its own length at most"
TILED: dict[str, Any] = {"slack": VOLUME, "facts": ("voxel_um", "dtype"), "wants": "torch", "library_tolerance": 1e-4}
STRETCHED = {"how": "percentiles", "low": 2, "high": 98}
TILES = [
    Tiles("physeg-airy1-vesicle", 3),
    Tiles("physeg-epi1-mito", 4, "otsu-eroded"),
    Tiles("physeg-epi2-mito", 5, "solid"),
]

FLOODED: list[tuple[dict[str, Any], str, Shape]] = [
    ({}, "uint16", (7, 13, 31)),
    ({"tolerance": 30, "connectivity": 3}, "float32", (9, 12, 23)),
    ({"tolerance": 12.5, "connectivity": 2, "dams": False}, "uint8", (13, 40)),
    ({"tolerance": 0}, "int32", (1, 40)),
]
"""A block sees the whole image, whose shape is therefore part of the case."""

STAGES: list[Case] = [
    *_each(gaussian, {"sigma_um": 0.17}, image, IMAGES + ",2 float64", reference=gaussian_by_scipy,
           reference_tolerance=1e-3, library_tolerance=1e-4, **WEIGHED),
    *_each(gaussian, {"sigma_um": 0.3, "truncate": 3.0}, image, "3 uint8, 2 int32", reference=gaussian_by_scipy,
           reference_tolerance=1e-3, library_tolerance=1e-4),
    *_each(gaussian, {"sigma_um": 0.0}, image, "3 bool"),
    *_each(difference_of_gaussians, {"low_sigma_um": 0.08, "high_sigma_um": 0.2}, image, IMAGES,
           reference=bands_by_scipy, reference_tolerance=2e-3, library_tolerance=2e-4, **WEIGHED),
    *_each(ridge, {"radius_um": [0.3, 0.15], "gamma": 20.0}, image, IMAGES, library_tolerance=1e-4, **WEIGHED),
    *_each(ridge, {"radius_um": RADII, "method": "frangi"}, image, "3 uint8, 2 uint16", library_tolerance=1e-4),
    *_each(ridge, {"radius_um": 0.2, "gamma": 5.0, "alpha": 0.3, "beta": 0.8}, image, "3 uint8, 2 float32",
           library_tolerance=1e-4),
    *_each(flatfield, {"image": "light.tif", "offset": 3}, image_and_light, "3 uint16, 2 float32, 2 uint8",
           reference=lambda case, array, light: (array.astype("float32") - 3) / np.maximum(light, 0.05), **WEIGHED),
    *_each(flatfield, {"of": "fields"}, lit, "3 uint16, 3 float32, 2 uint8", facts=("voxel_um", "dtype"), reference=evened_by_scipy,
           reference_tolerance=1e-2, library_tolerance=1e-2, **WEIGHED),
    *_each(threshold, {"value": 60.5}, image, IMAGES + ",2 float16", **THRESHOLD,
           reference=lambda case, array: array > 60.5),
    *_each(threshold, {"value": -3.2}, signed, "3 int16, 2 float64", **THRESHOLD,
           reference=lambda case, array: array.astype(np.float64) > -3.2),
    *_each(threshold, {"method": "otsu"}, image, "3 uint16, 3 float32, 2 uint8", **THRESHOLD,
           reference=by_skimage),
    *_each(threshold, {"method": "otsu", "over": "collection"}, signed, "3 int32, 2 int64", **THRESHOLD),
    *_each(threshold, {"method": "triangle"}, image, "3 uint16, 3 float32, 2 uint8", **THRESHOLD, reference=by_skimage),
    *_each(threshold, {"method": "li"}, image, "3 uint16, 2 uint8", **THRESHOLD, reference=by_skimage),
    *_each(threshold, {"method": "li", "of": "positive"}, signed, "3 float32, 2 int16", **THRESHOLD),
    *_each(threshold, {"method": "otsu", "of": "positive", "min_contrast": 90.0}, image, "3 uint16, 2 float32", **THRESHOLD),
    *_each(threshold, {"method": "local", "radius_um": 0.31, "offset": 3.25}, image, "3 uint16, 2 float32",
           **THRESHOLD, library_tolerance=0.01),
    *_each(threshold, {"method": "local", "radius_um": 0.31, "mean": "gaussian", "offset": -0.5}, image, "3 uint16, 2 float32",
           **THRESHOLD, library_tolerance=0.01, reference=local_by_opencv),
    *_each(opening, {"radius_um": 0.27}, image, "3 uint16", **BALL),
    *_each(opening, {"radius_um": 0.27}, image, "2 float32", slack=RIM, **BALL),
    *_each(closing, {"radius_um": 0.22}, mask, "3 bool, 2 uint8", slack=RIM, **BALL),
    *_each(top_hat, {"radius_um": 0.27}, image, "3 uint16, 3 float32", **BALL),
    *_each(top_hat, {"radius_um": 0.27}, image, "2 uint8", slack=RIM, **BALL),
    *_each(top_hat, {"radius_um": 0.05}, mask, "3 bool", **BALL),
    *_each(gradient, {"radius_um": 0.27}, image, "3 uint16, 2 float32", **{**THRESHOLD, "reference": edges_by_scipy}),
    *_each(gradient, {"radius_um": 0.15}, signed, "3 int16, 2 int8", **{**THRESHOLD, "reference": edges_by_scipy}),
    *_each(gradient, {"radius_um": 0.15}, mask, "3 bool", **{**THRESHOLD, "reference": edges_by_scipy}),
    *_each(median, {"radius_um": 0.13}, image, "3 uint16, 2 float32", reference=by_scipy_with_a_ball, **WEIGHED),
    *_each(median, {"radius_um": 0.13}, mask, "2 bool", reference=by_scipy_with_a_ball),
    *_each(fill_holes, {}, mask, "3 bool, 3 uint16, 2 uint8", reference=filled_by_scipy, **WEIGHED),
    *_each(fill_holes, {"connectivity": 2}, mask, "3 bool, 2 bool", reference=filled_by_scipy),
    *_each(within, {"holder": "cell"}, mask_and_labels, "3 bool, 2 uint8",
           reference=lambda case, mask, labels: labels * (mask != 0), **WEIGHED),
    *_each(heights, {"sigma_um": 0.12}, mask_and_image, "3 uint16, 2 float32", library_tolerance=1e-3, **WEIGHED),
    *_each(heights, {}, mask_and_image, "3 uint8", reference=lambda case, mask, image: np.where(mask, image, np.finfo("float32").min)),
    *_each(split, {"min_separation_um": 0.3}, mask, "3 bool, 2 uint8", slack=RIM, **WEIGHED),
    *_each(split, {"min_separation_um": 0.2, "by": "distance", "reach_um": 0.25}, mask, "3 bool", slack=RIM),
    *_each(split, {"min_separation_um": 0.25, "by": "intensity", "sigma_um": 0.1}, landscape, "3 float32, 2 float32",
           slack=RIM, **WEIGHED),
    *_each(split, {"by": "probability", "above": 0.45, "depth_um": 0.03, "reach_um": 0.24}, chances, "3 float32, 2 float64",
           slack=RIM, **WEIGHED),
    *_each(split, {"by": "probability"}, chances, "3 float16", slack=RIM),
    *(Case(flood, params, image, len(shape), dtype, facts=("voxel_um", "dtype"), shape=shape) for params, dtype, shape in FLOODED),
    *_each(label, {}, mask, "3 bool, 3 uint16, 2 uint8", reference=labels_by_scipy, **WEIGHED),
    *_each(label, {"min_diameter_um": 0.3}, mask, "3 bool, 2 bool"),
    *_each(label, {"connectivity": 1}, mask, "3 uint8, 2 bool", reference=labels_by_scipy),
    *_each(label, {"connectivity": 2, "min_voxels": 4}, mask, "3 bool"),
    *_each(label, {"multilabel": True, "min_volume_um3": 0.01}, values, "3 uint32"),
    *_each(label, {"multilabel": True}, values, "2 int16"),
    *_each(downsample, {"factors": (2, 2, 2), "how": "mean"}, image, "3 uint16, 3 float32", reference=cells_by_hand,
           reference_tolerance=1e-4, **WEIGHED),
    *_each(downsample, {"factors": (1, 3), "how": "mean"}, signed, "2 int32, 2 float64", reference=cells_by_hand,
           reference_tolerance=1e-4),
    *_each(downsample, {"factors": (1, 2, 2), "how": "mode"}, labels, "3 uint32, 3 uint8", **WEIGHED),
    *_each(downsample, {"factors": (3, 2), "how": "mode"}, mask, "2 bool"),
    *_each(downsample, {"factors": (2, 2, 2), "how": "stride"}, image, "3 uint16", reference=first_by_hand,
           slack="the first voxel of a cell stands for it", **WEIGHED),
    *_each(resample, {"to_um": [0.4, 0.25, 0.06]}, image, "3 uint16, 3 float32", reference=by_torch, **TENT),
    *_each(resample, {"to_um": [0.31, 0.06]}, image, "2 uint8, 2 float32, 3 uint16", reference=by_torch, **TENT),
    *_each(resample, {"to_um": 0.17, "how": "nearest"}, labels, "3 uint32, 2 uint8", reference=nearest_by_hand, **WEIGHED),
    *_each(richardson_lucy, {"microscope": "epi1", "radius_um": 0.3, "depth_radius_um": 0.5, "iterations": 3, "background": 4.0}, faint,
           "3 uint16, 2 uint8", **BLURRED, **WEIGHED),
    *_each(richardson_lucy, {"microscope": "confocal", "depth_um": 1.0, "radius_um": 0.25, "depth_radius_um": 0.5, "iterations": 10,
           "tv": 0.01}, faint, "3 uint8, 2 uint16", **BLURRED, **WEIGHED),
    *_each(richardson_lucy, {"psf": BEAD, "radius_um": 0.3, "iterations": 2}, faint, "3 uint16", **BLURRED),
    *_each(wiener, {"microscope": "epi1", "depth_um": 1.0, "radius_um": 0.3, "depth_radius_um": 0.5, "noise": 0.003}, faint,
           "3 uint16, 2 uint8", **BLURRED, **WEIGHED),
    *_each(wiener, {"psf": BEAD, "radius_um": 0.3, "depth_radius_um": 0.5}, faint, "3 uint8, 3 int32", **BLURRED),
    *_each(segment, {"model": tiny(), "tile": [4, 8, 16], "over": "image"}, image, "3 uint16, 3 float32", **TILED),
    *_each(segment, {"model": tiny(2, classes=("er", "mito"), how=STRETCHED, voxel_um=(0.12, 0.1)), "of": "mito", "tile": [8, 12],
           "overlap": 0.3, "blend": "hann", "mirror": True}, image, "2 uint8, 3 uint16", **TILED),
    *_each(segment, {"model": tiny(how={"how": "range", "low": 3, "high": 70}), "tile": [6, 20, 24], "blend": "crop", "skip_below": 40},
           image, "3 uint8", **TILED),
    *_each(segment, {"model": tiny(2, how=STRETCHED), "tile": [8, 12], "precision": "mixed"}, image, "2 uint16",
           **{**TILED, "library_tolerance": 2e-2}),
    *_each(python, {"file": OWN, "function": "smooth", "halo_um": [0.5, 0.22, 0.2], "version": 2, "params": {"sigma": 1}}, image,
           "3 uint16, 3 float32", reference=lambda case, array: ndimage.gaussian_filter(array.astype("float32"), 1, truncate=2)),
    *_each(python, {"file": OWN, "function": "sized", "halo_um": 0}, image, "2 uint8"),
    *_each(python, {"file": OWN, "function": "ranked", "tile": [8, 12], "overlap": 0.25, "blend": "crop"}, image, "2 uint16", slack=VOLUME),
    *_each(python, {"file": OWN, "function": "bright", "returns": "mask", "halo_um": 0, "params": {"above": 60}}, image, "3 uint16, 2 uint8",
           reference=lambda case, array: array > 60),
    # Tiles that begin 1, 2 and 3 voxels apart: the law of reading meets blocks whose first and last voxels are the middles of some.
    *_each(python, {"file": OWN, "function": "found", "returns": "labels", "tile": [1, 6, 9], "overlap": 0.6, "params": {"above": 60}},
           image, "3 uint16", extent=(3, 9, 14)),
    *_each(python, {"file": OWN, "function": "unlike", "returns": "labels", "tile": [3, 6], "overlap": 0.6}, image, "2 uint8, 2 float32",
           extent=(9, 14)),
    *(Case(cell_image, {"scene": scene, "organelle": kind}, nothing, facts=(), shape=scene.shape) for scene, kind in SCENES),
    *(Case(cell_truth, {"scene": scene, "organelle": kind}, nothing, facts=(), shape=scene.shape) for scene, kind in SCENES),
    *(Case(tile, {"tiles": tiles}, nothing, ndim=2, facts=(), shape=(256, 256)) for tiles in TILES),
    Case(point, {"scope": microscope("epi1"), "shape": (9, 15, 17), "voxel_um": (0.2, 0.1, 0.09), "depth_um": 1.0}, nothing, facts=(),
         shape=(9, 15, 17)),
    *(Case(tile_truth, {"tiles": tiles}, nothing, ndim=2, facts=(), shape=(256, 256)) for tiles in TILES),
]  # fmt: skip

MEASURES: list[Case] = [
    *_each(index, {}, labels, "3 uint8, 3 uint32, 2 uint32", **ROWS),
    *_each(shape, {}, labels, "3 uint8, 3 uint32, 2 uint32", **ROWS),
    *_each(surface, {}, labels, "3 uint32, 2 uint8", **ROWS),
    *_each(topology, {}, labels, "3 uint32, 2 uint8", **ROWS),
    *_each(windows, {"surface": True, "topology": True}, labels, "3 uint32, 2 uint32", **ROWS),
    *_each(intensity, {"channel": "TMRM"}, labels_and_image, "3 uint16, 3 float32, 2 uint8", **ROWS,
           facts=("voxel_um", "dtype")),
    *_each(intensity, {"channel": "TMRM", "shape": True}, labels_and_image, "3 uint16, 2 float64", **ROWS,
           facts=("voxel_um", "dtype")),
    *_each(overlaps, {}, prediction_and_truth, "3 uint32, 3 uint64, 3 bool, 2 uint8", facts=("ndim",), **WEIGHED),
    *_each(rays, {}, prediction_and_truth, "3 uint32, 3 bool, 2 uint8", facts=("ndim",), **WEIGHED),
    *_each(planes, {}, prediction_and_truth, "3 uint32, 3 bool, 2 uint8", facts=("ndim",), **WEIGHED),
    *_each(projections, {}, labels_and_image, "3 uint16, 3 float32, 2 uint8", **WEIGHED),
    *_each(histogram, {"bins": 64, "scope": "image"}, image, "3 float32, 2 float64", facts=("ndim", "dtype"), **WEIGHED),
    *_each(histogram, {}, signed, "3 int32, 2 int16", facts=("ndim", "dtype"), **WEIGHED),
    *(Case(tile_objects, {"tiles": tiles}, dark, ndim=2, facts=(), shape=(256, 256)) for tiles in TILES),
    *(Case(cell_runs, {"scene": scene, "organelle": kind}, dark, facts=(), shape=scene.shape) for scene, kind in SCENES),
    *(Case(cell_objects, {"scene": scene, "organelle": kind}, dark, facts=(), shape=scene.shape) for scene, kind in SCENES),
]  # fmt: skip

SHOWN = {
    "label_faces": foreground,
    "label_ids": count_of_objects,
    "climbs": foreground,
    "climb_ids": count_of_objects,
    "saddles": foreground,
    "saddle_ids": count_of_objects,
    "ground_faces": nothing_of_blocks,
    "ground_holes": nothing_of_blocks,
}


def _asked(cases: Sequence[Case]) -> list[Case]:
    """A case for each measure that these ask for."""
    found: dict[tuple[object, ...], Case] = {}
    for case in cases:
        for name, measure in asked_by(case.build()):
            key = (name, str(measure.params), case.ndim, case.dtype)
            slack = "" if case.slack == VOLUME else case.slack  # tiles are the network's affair, not what it asks for
            asked = replace(case, asked=name, shown=SHOWN.get(name), reference=None, library_tolerance=1e-3)
            found.setdefault(key, replace(asked, slack=slack, wants=""))
    return list(found.values())


CASES: list[Case] = [*STAGES, *MEASURES, *_asked([*STAGES, *MEASURES])]

HEAVY: list[Case] = [
    *(c for c in CASES if c.weighed and getattr(c.build(), "reads_array", True)),
    Case(
        cell_image,
        {"scene": Scene("cell-epi", (64, 512, 512)), "organelle": "mito"},
        nothing,
        facts=(),
        shape=(64, 512, 512),
    ),
    Case(
        cell_truth,
        {"scene": Scene("cell-epi", (64, 512, 512)), "organelle": "mito"},
        nothing,
        facts=(),
        shape=(64, 512, 512),
    ),
    Case(tile, {"tiles": Tiles("sam-mito", 1)}, nothing, ndim=2, facts=(), shape=(512, 512)),
    Case(flood, {}, image, dtype="uint16", facts=("voxel_um", "dtype"), shape=(32, 512, 512)),
    Case(flood, {"dams": False}, image, dtype="float32", facts=("voxel_um", "dtype"), shape=(16, 512, 512)),
]
"""What the law of memory weighs."""
