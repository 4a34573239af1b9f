"""Planted: stages and measures that break a law on purpose. Each must be caught; none is ever registered."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import count
from typing import Any

import numpy as np
from laws.cases import Case, image
from numpy.lib.stride_tricks import as_strided
from scipy import ndimage

from cristae.blocks.measure import Measure, Partial
from cristae.blocks.stage import At, Cost, Spec, Stage, local, same_spec
from cristae.grid import no_halo


def _mean(array: np.ndarray, mode: str = "reflect") -> np.ndarray:
    return ndimage.uniform_filter(array.astype(np.float32), 5, mode=mode)


def _as_float(spec: Spec) -> Spec:
    return Spec(spec.shape, "float32", spec.voxel_um)


def mean(halo: int = 2, mode: str = "reflect", declared: Callable[[Spec], Spec] = _as_float, *, ndim: int) -> Stage:
    """A mean over 5 voxels, honest as long as nobody changes a parameter."""
    return local("mean", _mean, {"mode": mode}, halo, ndim, output=declared, tolerance=1e-3)


def _as_bytes(spec: Spec) -> Spec:
    return Spec(spec.shape, "uint8", spec.voxel_um)


def _below_one(spec: Spec) -> Spec:
    return Spec(spec.shape, "float32", spec.voxel_um, (0.0, 1.0))


EIGHT_BYTES = Cost(8.0)


def stage(apply: Callable[..., Any], cost: Cost = EIGHT_BYTES, *, ndim: int) -> Stage:
    return Stage(apply.__name__, {}, apply, no_halo(ndim), same_spec, cost)


_calls = count()


def _block_shows(array: np.ndarray, *, at: At, answers: object) -> np.ndarray:
    return array + array.dtype.type(at.index)


def _calls_show(array: np.ndarray, *, at: At, answers: object) -> np.ndarray:
    return array + array.dtype.type(next(_calls))


def _steps_outside(array: np.ndarray, *, at: At, answers: object) -> np.ndarray:
    behind = as_strided(array[..., -1:], (*array.shape[:-1], 2), array.strides)[..., 1:]
    return np.concatenate([array[..., 1:], behind], axis=-1)


def _changes_its_input(array: np.ndarray, *, at: At, answers: object) -> np.ndarray:
    if array.flags.writeable:
        array += array.dtype.type(1)
        return array
    return array + array.dtype.type(1)


def _takes_much(array: np.ndarray, *, at: At, answers: object) -> np.ndarray:
    work = [array.astype(np.float64) for _ in range(4)]
    return sum(work[1:], work[0]).astype(array.dtype)


def _numpy_only(array: Any, *, at: At, answers: object) -> Any:
    return np.sqrt(array)


def measure(partial: Callable[..., Partial], merge: Callable[[Sequence[Partial]], Partial], *, ndim: int) -> Measure:
    return Measure(merge.__name__, {}, partial, merge, None, no_halo(ndim))


def _mean_of(array: np.ndarray, *, at: At, answers: object) -> Partial:
    core = array[at.out.within(at.reads[0])]
    return {"mean": np.array(core.mean()), "n": np.array(core.size)}


def _means_of_means(partials: Sequence[Partial]) -> Partial:
    """Not associative: blocks of different size count alike."""
    return {
        "mean": np.array(np.mean([p["mean"] for p in partials]) if partials else 0.0),
        "n": np.array(sum(int(p["n"]) for p in partials)),
    }


def _first_wins(partials: Sequence[Partial]) -> Partial:
    """Associative, but not commutative."""
    some = [p for p in partials if p["n"]]
    return some[0] if some else {"mean": np.array(0.0), "n": np.array(0)}


def _nothing_counts(partials: Sequence[Partial]) -> Partial:
    """merge([]) is not neutral."""
    return {"mean": np.array(0.0), "n": np.array(sum((int(p["n"]) for p in partials), 0 if partials else 1))}


def _eats_its_partials(partials: Sequence[Partial]) -> Partial:
    """Right, but it adds into the first partial."""
    out = {"mean": np.array(0.0), "n": np.array(0)}
    for p in partials:
        out["n"] += p["n"]
        p["n"][...] = 0
    return out


def _plant(builder: Callable[..., Any], dtype: str = "uint16", **params: Any) -> Case:
    return Case(builder, params, image, 3, dtype, facts=("ndim",))


HONEST = _plant(mean)
HALO_TOO_SMALL, HALO_TOO_LARGE = _plant(mean, halo=1), _plant(mean, halo=3)
OTHER_EDGE = _plant(mean, mode="nearest")
OTHER_TYPE, OTHER_RANGE = _plant(mean, declared=_as_bytes), _plant(mean, declared=_below_one)
BLOCK_SHOWS, CALLS_SHOW = _plant(stage, apply=_block_shows), _plant(stage, apply=_calls_show)
STEPS_OUTSIDE = _plant(stage, apply=_steps_outside)
CHANGES_ITS_INPUT = _plant(stage, apply=_changes_its_input)
NUMPY_ONLY = _plant(stage, "float32", apply=_numpy_only)
MEANS_OF_MEANS, FIRST_WINS, NOTHING_COUNTS, EATS_ITS_PARTIALS = (
    _plant(measure, partial=_mean_of, merge=merge)
    for merge in (_means_of_means, _first_wins, _nothing_counts, _eats_its_partials)
)
TAKES_MUCH, CLAIMS_MUCH = _plant(stage, apply=_takes_much), _plant(stage, apply=_takes_much, cost=Cost(200.0))
TELLS_TRUE = _plant(stage, apply=_takes_much, cost=Cost(48.0))
HEAVY = [TAKES_MUCH, CLAIMS_MUCH, TELLS_TRUE]
