"""Drawn: small label volumes that disagree, and the plain way to count what they share."""

from __future__ import annotations

import numpy as np
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from scipy import ndimage

from cristae.blocks.measure import ask
from cristae.evaluation.overlap import Table, overlaps

SHAPES = hnp.array_shapes(min_dims=2, max_dims=3, min_side=1, max_side=6)


@st.composite
def two_segmentations(draw: st.DrawFn) -> tuple[np.ndarray, np.ndarray]:
    """Prediction and truth of one shape with few labels, so that all ways to overlap occur."""
    shape = draw(SHAPES)
    many = draw(st.integers(1, 6))
    labels = hnp.arrays(np.uint16, shape, elements=st.integers(0, many), fill=st.just(0))
    return draw(labels), draw(labels)


def cells(seed: int, shape: tuple[int, ...] = (10, 40, 44)) -> tuple[np.ndarray, np.ndarray]:
    """Truth: blobs; prediction: the same with some gone, some cut, some joined, some added, all a voxel aside."""
    rng = np.random.default_rng(seed)
    rough = ndimage.gaussian_filter(rng.normal(size=shape), 1.6)
    truth = ndimage.label(rough > 0.9 * rough.std())[0]
    pred = np.roll(truth, 1, axis=-1)
    ids = np.unique(truth)[1:]
    for number, label in enumerate(ids):
        if number % 7 == 0:
            pred[pred == label] = 0
        elif number % 7 == 1:
            one, *_ = np.nonzero(pred == label)
            where = pred == label
            where[: int(np.median(one))] = False
            pred[where] = len(ids) + label
        elif number % 7 == 2:
            pred[pred == label] = ids[number - 1]
    more = ndimage.label(ndimage.gaussian_filter(rng.normal(size=shape), 1.2) > 0.35)[0]
    pred = np.where((pred == 0) & (more > 0), more + 3 * len(ids), pred)
    return pred.astype(np.uint32), truth.astype(np.uint32)


def table_of(pred: np.ndarray, truth: np.ndarray) -> Table:
    """The table as the measure finds it."""
    return Table.of(ask(overlaps(ndim=pred.ndim), pred, truth).arrays)


def counted(pred: np.ndarray, truth: np.ndarray) -> dict[tuple[int, int], int]:
    """Voxels of each pair of labels, one voxel after the other."""
    found: dict[tuple[int, int], int] = {}
    for a, b in zip(pred.ravel().tolist(), truth.ravel().tolist(), strict=True):
        found[a, b] = found.get((a, b), 0) + 1
    return found
