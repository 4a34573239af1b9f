"""Histograms and extremes of whole frames, merged exactly from blocks.

    extrema     smallest and largest value
    histogram   integers: every value that occurs, with its count; floats: counts in bins between the extremes,
                which are asked for first

Counts are integers, so the merge is exact whatever the block grid. An integer histogram is sparse: its size is the
number of different values, never the range between them. Values that are not finite are refused where they are found.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np

from cristae.array import Array, namespace, to_host
from cristae.blocks.measure import Answer, Measure, Partial, Scope
from cristae.blocks.stage import At, Cost
from cristae.errors import InvalidConfiguration, InvalidInput
from cristae.grid import no_halo

BINS = 256
DENSE = 2**20
"""Integer values of a block that lie within so wide a range are counted by index; wider ones are sorted."""
CHUNK = 2**18
"""Voxels counted at once: their indices need eight bytes each."""
SORTED = Cost(34.0, 3.0)
"""Integers that may be wide: bytes are those of sorting (then 200 ns a voxel), time that of counting by index."""


def extrema(*, ndim: int, scope: Scope = "frame", positive: bool = False) -> Measure:
    """The smallest and the largest value, as float64 (integers beyond 2^53 are rounded); of those above 0 if `positive`.

    The answer holds "min" and "max", inf and -inf where there are no values. Raises InvalidInput on values that are not
    finite.
    """
    params, cost = {"positive": positive}, Cost(0.5 if positive else 0.0, 0.5)
    return Measure("extrema", params, partial(_extrema, positive=positive), _widest, _same, no_halo(ndim), scope, cost)


def histogram(
    bins: int = BINS, *, ndim: int, dtype: str = "float32", scope: Scope = "frame", positive: bool = False
) -> Measure:
    """How often each value occurs.

    Parameters
    ----------
    bins : number of equal bins between the extremes, for floats
    ndim : number of spatial axes
    dtype : of the image: integers and bool are counted value by value, floats in bins by the rule of numpy.histogram
    scope : what is counted together
    positive : count only values above 0

    Returns
    -------
    A measure whose answer holds "values" (ascending; the centres of the bins for floats) and "counts" (int64); an
    image of one value has one, and one without values has none.

    Raises
    ------
    InvalidConfiguration : if there are fewer than two bins, or blocks of another kind of dtype arrive.
    InvalidInput : on values that are not finite.
    """
    if not isinstance(bins, int) or isinstance(bins, bool) or bins < 2:
        raise InvalidConfiguration(f"histogram: bins is {bins!r}, but must be a whole number, 2 or more")
    if np.dtype(dtype).kind in "biu":
        cost = Cost(1.5, 3.0) if np.dtype(dtype).itemsize <= 2 else SORTED
        count = partial(_count, positive=positive)
        return Measure("histogram", {"positive": positive}, count, _join, _same, no_halo(ndim), scope, cost)
    return Measure(
        "histogram",
        {"bins": bins, "positive": positive},
        partial(_bin, bins=bins, positive=positive),
        partial(_add, bins=bins),
        partial(centred, dtype=dtype),
        no_halo(ndim),
        scope,
        Cost(1.5, 6.0),
        asks={"extrema": extrema(ndim=ndim, scope=scope, positive=positive)},
    )


def _extrema(array: Array, *, at: At, answers: Mapping[str, Answer], positive: bool) -> Partial:
    xp, core = namespace(array), array[at.out.within(at.reads[0])]
    found = []
    for part in _parts(core.ravel()) if positive else [core]:
        _need_finite(not positive or bool(xp.all(xp.isfinite(part))), at)
        chosen = part[part > 0] if positive else part
        if chosen.size:
            found.append({"min": np.array(float(xp.min(chosen))), "max": np.array(float(xp.max(chosen)))})
    widest = _widest(found)
    _need_finite(not found or bool(np.isfinite([widest["min"], widest["max"]]).all()), at)
    return widest


def _parts(flat: Array) -> Iterator[Array]:
    """An array in pieces, so that what is made of each takes little memory."""
    return (flat[start : start + CHUNK] for start in range(0, flat.size, CHUNK))


def _widest(partials: Sequence[Partial]) -> Partial:
    return {
        "min": np.array(min((p["min"].item() for p in partials), default=np.inf)),
        "max": np.array(max((p["max"].item() for p in partials), default=-np.inf)),
    }


def _same(partial: Partial) -> Partial:
    return partial


def _count(array: Array, *, at: At, answers: Mapping[str, Answer], positive: bool) -> Partial:
    """Every value of an integer image with its count, ascending."""
    xp, flat = namespace(array), array[at.out.within(at.reads[0])].ravel()
    _need_kind(flat.dtype, "biu", "an integer")
    if flat.dtype.kind == "b":
        flat = flat.view(xp.uint8)
    low, high = int(xp.min(flat)), int(xp.max(flat))
    wide = np.dtype("uint64" if flat.dtype == np.uint64 else "int64")
    if high - low >= DENSE:
        values, counts = xp.unique(flat, return_counts=True)
        return _kept(to_host(values).astype(wide), to_host(counts).astype(np.int64), positive)
    total = xp.zeros(high - low + 1, xp.int64)
    for part in _parts(flat):
        above = part.astype(wide) - wide.type(low)
        total += xp.bincount(above.astype(xp.int64), minlength=total.size)
    counts = to_host(total)
    present = np.flatnonzero(counts)
    return _kept(present.astype(wide) + wide.type(low), counts[present], positive)


def _kept(values: np.ndarray, counts: np.ndarray, positive: bool) -> Partial:
    above = values > 0 if positive else slice(None)
    return {"values": values[above], "counts": counts[above]}


def _join(partials: Sequence[Partial]) -> Partial:
    filled = [p for p in partials if p["values"].size]
    if not filled:
        return {"values": np.empty(0, np.int64), "counts": np.empty(0, np.int64)}
    values, counts = (np.concatenate([p[name] for p in filled]) for name in ("values", "counts"))
    order = np.argsort(values, kind="stable")
    values, counts = values[order], counts[order]
    first = np.flatnonzero(np.concatenate([[True], values[1:] != values[:-1]]))
    return {"values": values[first], "counts": np.add.reduceat(counts, first)}


def _bin(array: Array, *, at: At, answers: Mapping[str, Answer], bins: int, positive: bool) -> Partial:
    """Counts of a float image between its extremes; the last bin holds its right edge too."""
    xp, flat = namespace(array), array[at.out.within(at.reads[0])].ravel()
    _need_kind(flat.dtype, "f", "a float")
    _need_finite(bool(xp.all(xp.isfinite(flat))), at)
    edges = _edges(answers["extrema"], bins, flat.dtype)
    counts = np.zeros(bins, np.int64)
    for part in _parts(flat):
        counts += _binned(part[part > 0] if positive else part, edges, bins, xp)
    return {"counts": counts}


def _binned(flat: Array, edges: np.ndarray, bins: int, xp: Any) -> np.ndarray:
    if edges.size < 2:
        return np.bincount([0], [flat.size], bins).astype(np.int64)
    if xp is np and (edges[1:] > edges[:-1]).all():
        return np.histogram(flat, bins, (edges[0], edges[-1]))[0].astype(np.int64)
    # The same rule where numpy's own function is not at hand, or refuses bins narrower than the float's spacing.
    place = xp.searchsorted(xp.asarray(edges), flat, side="right") - 1
    return to_host(xp.bincount(xp.clip(place, 0, bins - 1), minlength=bins)).astype(np.int64)


def _add(partials: Sequence[Partial], *, bins: int) -> Partial:
    return {"counts": sum((p["counts"] for p in partials), np.zeros(bins, np.int64))}


def centred(partial: Partial, answers: Mapping[str, Answer], *, dtype: str) -> Partial:
    """The answer of a float histogram: the centres of its bins, and their counts."""
    edges = _edges(answers["extrema"], partial["counts"].size, np.dtype(dtype))
    if edges.size < 2:
        return {"values": edges, "counts": partial["counts"][: edges.size]}
    return {"values": (edges[:-1] + edges[1:]) / 2, "counts": partial["counts"]}


def _edges(extremes: Answer, bins: int, dtype: np.dtype) -> np.ndarray:
    """numpy.histogram's edges between the extremes, in the image's own precision; one if they are equal, none of no values."""
    low, high = (dtype.type(extremes.number(name)) for name in ("min", "max"))
    if low > high:
        return np.empty(0, dtype)
    return np.array([low]) if low == high else np.linspace(low, high, bins + 1, dtype=dtype)


def _need_finite(finite: bool, at: At) -> None:
    if not finite:
        raise InvalidInput(
            f"the image has NaN or infinite values between voxels {at.out.start} and {at.out.stop} of frame {at.t}; "
            "a threshold cannot be found with them, so replace them first"
        )


def _need_kind(dtype: np.dtype, kinds: str, expected: str) -> None:
    if dtype.kind not in kinds:
        raise InvalidConfiguration(
            f"the histogram was set up for {expected} image, but the blocks are {dtype}; give dtype={str(dtype)!r}"
        )
