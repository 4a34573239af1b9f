"""What a projection counts: the same sums by numpy, whatever the blocks, also where a pixel is many voxels and blocks cut it."""

from __future__ import annotations

import numpy as np
import pytest
from evaluation.drawn import cells
from laws.blockwise import blockwise_answer

from cristae.blocks.measure import ask
from cristae.evaluation import rays as module
from cristae.evaluation.rays import rays
from cristae.grid import BlockGrid


def expected(pred: np.ndarray, truth: np.ndarray, cell: int) -> np.ndarray:
    p, t = pred.reshape(-1, *pred.shape[-2:]) > 0, truth.reshape(-1, *truth.shape[-2:]) > 0
    seen = np.stack([(p & t).sum(axis=0), (p & ~t).sum(axis=0), (~p & t).sum(axis=0)])
    high, wide = (-(-n // cell) * cell for n in seen.shape[1:])
    padded = np.zeros((3, high, wide), int)
    padded[:, : seen.shape[1], : seen.shape[2]] = seen
    return padded.reshape(3, high // cell, cell, wide // cell, cell).sum(axis=(2, 4))


@pytest.mark.parametrize(("frame", "cell"), [(1024, 1), (22, 2), (9, 5)])
@pytest.mark.parametrize("ndim", [2, 3])
def test_counts_are_those_of_the_whole_volume(
    monkeypatch: pytest.MonkeyPatch, frame: int, cell: int, ndim: int
) -> None:
    monkeypatch.setattr(module, "FRAME", frame)
    pred, truth = (a[3] if ndim == 2 else a for a in cells(4))
    found = ask(rays(ndim=ndim), pred, truth).arrays
    assert found["cell"].tolist() == [cell]
    np.testing.assert_array_equal(found["counts"], expected(pred, truth, cell))
    for block in ((3, 7, 9), (10, 40, 1), (4, 13, 44)):
        grid = BlockGrid(pred.shape, block[-ndim:])
        answer = blockwise_answer(rays(ndim=ndim), [pred, truth], grid, np.random.default_rng(0)).arrays
        np.testing.assert_array_equal(answer["counts"], found["counts"])


def test_of_nothing_there_is_no_frame() -> None:
    measure = rays(ndim=3)
    assert measure.finish is not None
    assert measure.finish(measure.merge([]))["counts"].shape == (3, 0, 0)
