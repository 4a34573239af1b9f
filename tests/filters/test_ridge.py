"""The ridge filter against geometry with a known answer, closed forms against LAPACK, compiled against plain."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cristae.blocks.measure import ask
from cristae.errors import InvalidConfiguration
from cristae.filters import gaussian_kernel, ridge, ridge_kernel, ridge_plain
from cristae.filters.ridge import derivative_weights

UPPER = ((0, 0), (0, 1), (0, 2), (1, 1), (1, 2), (2, 2))


def whole(array: np.ndarray) -> tuple[slice, ...]:
    return tuple(slice(0, n) for n in array.shape)


def scales(*sigmas: tuple[float, ...]) -> list[tuple[np.ndarray, ...]]:
    return [tuple(derivative_weights(s) for s in sigma) for sigma in sigmas]


def cylinder(shape: tuple[int, int, int], voxel_um: tuple[float, ...], radius_um: float, axis: int) -> np.ndarray:
    """A solid tube along `axis` through the middle; every voxel holds the part of it inside, from 9^2 points."""
    fine = [(np.arange(9 * n) + 0.5) / 9 * h - n * h / 2 for n, h in zip(shape, voxel_um, strict=True)]
    across = [f for a, f in enumerate(fine) if a != axis]
    inside = across[0][:, None] ** 2 + across[1] ** 2 <= radius_um**2
    rows, columns = (n for a, n in enumerate(shape) if a != axis)
    part = inside.reshape(rows, 9, columns, 9).mean((1, 3))
    return np.broadcast_to(np.expand_dims(part, axis), shape).astype(np.float32)


def tangle(shape: tuple[int, ...], seed: int) -> np.ndarray:
    """Noisy bright tubes in all directions, as counts of photons."""
    rng = np.random.default_rng(seed)
    at = np.stack(np.meshgrid(*map(np.arange, shape), indexing="ij"), -1).astype(float)
    image = np.zeros(shape)
    for _ in range(6):
        to, direction = at - rng.random(len(shape)) * shape, rng.normal(size=len(shape))
        off_axis = (to**2).sum(-1) - (to @ direction) ** 2 / (direction @ direction)
        image = np.maximum(image, np.exp(-0.5 * off_axis / rng.uniform(1.2, 2.5) ** 2))
    return rng.poisson(100 + 900 * image).astype(np.uint16)


@pytest.mark.parametrize(("sigma", "tolerance"), [(1.5, 2e-3), (2.0, 3e-4), (3.5, 2e-4), (7.0, 2e-4)])
@pytest.mark.parametrize("order", [0, 1, 2])
def test_derivatives_are_those_of_the_analytic_gaussian(sigma, tolerance, order):
    """Smoothing a Gaussian of width s gives one of width sqrt(s^2 + sigma^2), whose derivatives are known."""
    s, x = 1.5, np.arange(-60.0, 61)
    image = np.exp(-0.5 * (x / s) ** 2)
    width = np.hypot(s, sigma)
    smooth = s / width * np.exp(-0.5 * (x / width) ** 2)
    factor = (1, -x / width**2 * sigma, (x**2 / width**2 - 1) / width**2 * sigma**2)[order]
    found = ridge_plain.derivative(image, 0, slice(0, x.size), derivative_weights(sigma), order)
    assert np.abs(found - factor * smooth).max() <= tolerance * np.abs(factor * smooth).max()


@given(st.floats(0.005, 12))
def test_derivatives_are_exact_on_polynomials_at_every_sigma(sigma):
    x = np.arange(-80.0, 81)
    for order, polynomial in enumerate((np.ones_like(x), x, x**2 / 2)):
        found = ridge_plain.derivative(polynomial, 0, slice(70, 91), derivative_weights(sigma), order)
        np.testing.assert_allclose(found, sigma**order, rtol=1e-9)


@pytest.mark.parametrize(("dtype", "tolerance"), [(np.float64, 1e-12), (np.float32, 2e-5)])
def test_closed_form_eigenvalues_agree_with_lapack(dtype, tolerance):
    matrices = np.random.default_rng(0).normal(size=(20000, 3, 3))
    matrices = ((matrices + matrices.transpose(0, 2, 1)) / 2).astype(dtype)
    found = ridge_plain.eigenvalues(*(matrices[:, i, j] for i, j in UPPER))
    expected = np.linalg.eigvalsh(matrices.astype(np.float64))
    assert np.abs(np.stack(found, -1) - expected).max() <= tolerance


@pytest.mark.parametrize("diagonal", [(0, 0, 0), (2, 2, 2), (-1, 0, 3), (1e-30, 1e-30, 0), (5, 5, -1)])
def test_eigenvalues_of_diagonal_and_degenerate_matrices(diagonal):
    zero = np.zeros(1)
    a, b, c = (np.array([float(d)]) for d in diagonal)
    np.testing.assert_allclose(
        np.ravel(ridge_plain.eigenvalues(a, zero, zero, b, zero, c)), sorted(diagonal), atol=1e-7
    )


def best_radius(tube: np.ndarray, voxel_um: tuple[float, ...], radii: np.ndarray) -> float:
    middle = tuple(n // 2 for n in tube.shape)
    return radii[np.argmax([ridge(float(r), voxel_um=voxel_um, gamma=0.5)(tube)[middle] for r in radii])]


@pytest.mark.parametrize("axis", [0, 1, 2])
@pytest.mark.parametrize(
    ("voxel_um", "radius_um", "size"), [((0.1, 0.1, 0.1), 0.5, (47, 47, 47)), ((0.2, 0.1, 0.1), 1.0, (45, 91, 91))]
)
def test_a_tube_answers_most_at_its_own_radius(voxel_um, radius_um, size, axis):
    shape = tuple(3 if a == axis else n for a, n in enumerate(size))
    tube = cylinder(shape, voxel_um, radius_um, axis)
    found = best_radius(tube, voxel_um, radius_um * np.arange(0.85, 1.16, 0.01))
    assert found == pytest.approx(radius_um, rel=0.03)


@pytest.mark.parametrize(("profile", "factor"), [("projection", 1.184), ("stripe", 2**0.5)])
def test_in_the_plane_the_best_radius_is_a_known_multiple(profile, factor):
    off_axis = (np.arange(9 * 61) + 0.5) / 9 - 30.5
    inside = np.clip(36 - off_axis**2, 0, None) ** 0.5 / 6 if profile == "projection" else np.abs(off_axis) <= 6
    image = np.broadcast_to(inside.reshape(61, 9).mean(1), (3, 61)).astype(np.float32)
    assert best_radius(image, (0.1, 0.1), np.arange(0.5, 1.0, 0.01)) == pytest.approx(0.6 * factor, rel=0.03)


def test_flat_voxels_give_the_response_of_cubic_ones():
    fine = cylinder((81, 3, 61), (0.05, 0.1, 0.1), 0.5, 1)
    flat = fine.reshape(27, 3, 3, 61).mean(1)
    cubic = ridge(0.5, voxel_um=(0.05, 0.1, 0.1), gamma=0.5)(fine)[40, 1]
    np.testing.assert_allclose(ridge(0.5, voxel_um=(0.15, 0.1, 0.1), gamma=0.5)(flat)[13, 1], cubic, atol=0.01)


def test_bright_tubes_answer_and_dark_tubes_balls_and_plates_do_less():
    bright = cylinder((31, 31, 31), (0.1,) * 3, 0.3, 0)
    at = np.stack(np.meshgrid(*[np.arange(31) - 15.0] * 3, indexing="ij"), -1)
    ball = ((at**2).sum(-1) <= 9).astype(np.float32)
    plate = (np.abs(at[..., 0]) <= 3).astype(np.float32)
    stage = ridge(0.3, voxel_um=(0.1,) * 3, gamma=0.1)
    tube, others = stage(bright)[15, 15, 15], [stage(v)[15, 15, 15] for v in (1 - bright, ball, plate)]
    assert tube > 0.8 and others[0] == 0 and others[1] < 0.15 and others[2] < 0.15


def test_the_order_of_radii_does_not_matter_and_repeats_do_not_count():
    image = tangle((20, 24, 28), 0)
    one = ridge([0.1, 0.3, 0.2], voxel_um=(0.1,) * 3)
    other = ridge((0.3, 0.2, 0.1, 0.2), voxel_um=(0.1,) * 3)
    assert one.params == other.params == ridge({"min": 0.1, "max": 0.3, "scales": 3}, voxel_um=(0.1,) * 3).params
    np.testing.assert_array_equal(one(image), other(image))


@pytest.mark.parametrize("ndim", [2, 3])
def test_the_global_gamma_is_half_of_the_largest_norm_over_all_scales(ndim):
    image = tangle((16, 40, 44)[-ndim:], 1)
    sigmas = [(r / np.sqrt(2),) * ndim for r in (1.5, 3.0)]
    largest = max(
        np.sqrt(ridge_plain.squared_norm(list(ridge_plain.hessian(image, whole(image), s))).max())
        for s in scales(*sigmas)
    )
    stage = ridge([0.15, 0.3], voxel_um=(0.1,) * ndim)
    gamma = ask(stage.asks["gamma"], image).number("gamma")
    assert gamma == pytest.approx(largest / 2, rel=1e-6)
    fixed = ridge([0.15, 0.3], voxel_um=(0.1,) * ndim, gamma=gamma)
    assert not fixed.asks
    np.testing.assert_array_equal(fixed(image), stage(image))


def test_the_unit_of_the_image_does_not_matter():
    image, stage = tangle((12, 20, 22), 2), ridge(0.2, voxel_um=(0.1,) * 3)
    expected = stage(image)
    for factor in (1e-12, 1e9):
        np.testing.assert_allclose(stage((image * factor).astype(np.float32)), expected, atol=2e-4)


@pytest.mark.parametrize("ndim", [2, 3])
@pytest.mark.parametrize("seed", range(3))
def test_the_compiled_response_is_the_plain_one(ndim, seed):
    """Within 1e-4 absolute, of responses in [0, 1]: what the series for acos and exp leave.

    The response itself jumps where the two smaller eigenvalues are equal and opposite; on so rare a voxel rounding
    decides, and none is met here.
    """
    image = tangle((18, 40, 44)[-ndim:], seed)
    window = (slice(2, 15), slice(3, 40), slice(0, 41))[-ndim:]
    several = scales((0.8, 1.6, 1.6)[-ndim:], (2.0, 2.5, 3.0)[-ndim:])
    gamma = ridge_plain.largest_norm(image, window, several) / 2
    assert gamma * 2 == pytest.approx(ridge_kernel.largest_norm(image, window, several), rel=1e-6)
    compiled = ridge_kernel.response(image, window, several, gamma, 0.5, 0.5)
    np.testing.assert_allclose(
        compiled, ridge_plain.response(image, window, several, gamma, 0.5, 0.5), atol=1e-4, rtol=0
    )
    assert compiled.max() > 0.3


def test_the_compiled_response_is_right_to_1e_4_against_float64_eigenvalues():
    image, scale = tangle((18, 40, 44), 5), scales((2.0, 2.0, 2.0))[0]
    gamma = ridge_plain.largest_norm(image, whole(image), [scale]) / 2
    curves = [c.astype(np.float64) / -gamma for c in ridge_plain.hessian(image, whole(image), scale)]
    found = ridge_kernel.response(image, whole(image), [scale], gamma, 0.5, 0.5)
    assert np.abs(found - ridge_plain.tube_3d(curves, 0.5, 0.5)).max() <= 1e-4


@pytest.mark.kernel
def test_series_are_as_good_as_they_say():
    t = np.linspace(-1.01, 1.01, 2001, dtype=np.float32)
    found = np.array([ridge_kernel.arc_cosine(v) for v in t])
    np.testing.assert_allclose(found, np.arccos(np.clip(t.astype(float), -1, 1)), atol=4e-7)
    x = np.linspace(0, 30, 2001, dtype=np.float32)
    decay = np.array([ridge_kernel.decay(v) for v in x])
    np.testing.assert_allclose(decay, np.exp(-x.astype(float)), atol=2e-6)
    assert decay.min() >= 0 and decay.max() <= 1


@pytest.mark.kernel
@pytest.mark.parametrize("ndim", [2, 3])
def test_compiled_rows_compute_what_they_say(ndim, monkeypatch):
    image = np.random.default_rng(4).integers(0, 99, (3, 5, 7)[-ndim:]).astype(np.uint8)
    several = scales((0.3, 0.6, 1.1)[-ndim:])

    def both() -> tuple[np.ndarray, float]:
        norm = ridge_kernel.largest_norm(image, whole(image), several)
        return ridge_kernel.response(image, whole(image), several, norm / 2, 0.5, 0.5), norm

    compiled = both()
    for module in (gaussian_kernel, ridge_kernel):
        for name, function in list(vars(module).items()):
            if hasattr(function, "py_func"):
                monkeypatch.setattr(module, name, function.py_func)
    plain = both()
    np.testing.assert_allclose(plain[0], compiled[0], atol=1e-6)
    assert plain[1] == pytest.approx(compiled[1], rel=1e-6)
    assert compiled[0].max() > 0


@settings(max_examples=30)
@given(st.integers(2, 3), st.floats(0.01, 3.0), st.floats(0, 6e4))
def test_a_constant_image_has_no_ridges_in_any_library(ndim, radius, value):
    image = np.full((4, 9, 35)[-ndim:], value, np.float32)
    several = scales((radius,) * ndim)
    for kernel in (ridge_kernel, ridge_plain):
        assert kernel.largest_norm(image, whole(image), several) == 0
        assert not kernel.response(image, whole(image), several, 0.0, 0.5, 0.5).any()


@pytest.mark.parametrize(
    ("user", "names"),
    [
        ({"radius_um": []}, "radius_um is empty"),
        ({"radius_um": [0.2, -0.1]}, "a radius of -0.1 um"),
        ({"radius_um": "wide"}, "'wide'"),
        ({"radius_um": None}, "a radius of None"),
        ({"radius_um": {"min": 0.4, "max": 0.1, "scales": 3}}, "from 0.4 to 0.1"),
        ({"radius_um": {"min": 0.1, "max": 0.4, "scales": 0}}, "0 scales"),
        ({"radius_um": {"min": 0.1, "max": 0.4, "scales": 1}}, "needs 2 scales"),
        ({"radius_um": {"min": 0.1, "max": 0.4}}, "needs min, max and scales, and has min, max"),
        ({"radius_um": 0.2, "method": "sato"}, "'sato' is not known"),
        ({"radius_um": 0.2, "gamma": 0}, "gamma is 0, .* or global"),
        ({"radius_um": 0.2, "gamma": "auto"}, "gamma is 'auto'"),
        ({"radius_um": 0.2, "alpha": -1}, "alpha is -1"),
        ({"radius_um": 0.2, "beta": float("nan")}, "beta is nan"),
    ],
)
def test_a_wrong_parameter_is_named(user, names):
    with pytest.raises(InvalidConfiguration, match=names):
        ridge(**user, voxel_um=(0.1,) * 3)
