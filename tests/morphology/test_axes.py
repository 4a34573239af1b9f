"""Eigenvalues of covariances: those of LAPACK, and exact also where an object is a thousand times as long as it is thick."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest

from cristae.morphology.axes_kernel import eigenvalues


def symmetric(n: int, d: int, seed: int) -> np.ndarray:
    found = np.random.default_rng(seed).normal(size=(n, d, d))
    return found + found.transpose(0, 2, 1)


@pytest.mark.kernel
@pytest.mark.parametrize("d", [2, 3])
def test_they_are_those_of_lapack(d: int) -> None:
    matrices = symmetric(300, d, 0)
    np.testing.assert_allclose(eigenvalues(matrices), np.linalg.eigvalsh(matrices), rtol=0, atol=1e-13)


@pytest.mark.kernel
def test_the_least_is_as_exact_as_the_largest() -> None:
    size = 10.0 ** np.random.default_rng(1).uniform(-6, 0, (50, 3))
    matrices = (symmetric(50, 3, 2) * 0.1 + 3 * np.eye(3)) * size[:, :, None] * size[:, None, :]
    for matrix, found in zip(matrices, eigenvalues(matrices), strict=True):
        (a, b, c), (_, d, e), (_, _, f) = [[Fraction(float(v)) for v in row] for row in matrix]
        determinant = a * (d * f - e * e) - b * (b * f - e * c) + c * (b * e - d * c)
        assert found[0] > 0 and float(np.prod(found)) == pytest.approx(float(determinant), rel=1e-13)


@pytest.mark.kernel
def test_points_lines_and_planes_have_no_extent_where_they_have_none() -> None:
    line = np.outer([1.0, 2.0, 3.0], [1.0, 2.0, 3.0])
    plane = line + np.outer([2.0, -1.0, 0.0], [2.0, -1.0, 0.0])
    for matrix, expected in ((np.zeros((3, 3)), [0, 0, 0]), (line, [0, 0, 14]), (plane, [0, 5, 14])):
        np.testing.assert_allclose(eigenvalues(matrix[None])[0], expected, atol=1e-14)
    assert eigenvalues(np.empty((0, 3, 3))).shape == (0, 3)
