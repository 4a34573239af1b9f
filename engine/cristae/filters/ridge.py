"""Ridge filter: how much a place looks like a bright tube of a given radius, whatever its direction.

Widths are lengths in the sample. A solid bright tube of radius R answers most strongly to a Gaussian of standard
deviation R / sqrt(2); along each axis that is sigma / h voxels of size h, so flat voxels change nothing. Second
derivatives are taken in units of sigma (that is, times sigma squared), which makes scales comparable, and the largest
response over all scales is kept.

    gamma   the Hessian norm that counts as structure; "global" is half of the largest norm over all scales and
            voxels of the frame, found in a pass of its own before any response, and then frozen

Scikit-image takes gamma from its first scale only and leaves out sigma squared, so that its result depends on the order
of scales; here it cannot.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from math import inf, sqrt
from numbers import Real
from typing import Any

import numpy as np

from cristae.array import Array, pick
from cristae.blocks.measure import Answer, Measure, Partial
from cristae.blocks.stage import At, Cost, Spec, Stage
from cristae.errors import InvalidConfiguration
from cristae.filters import ridge_plain
from cristae.grid import Halo

TRUNCATE = 5.0
"""Half width of the kernels, in standard deviations: second derivatives are right to 1e-4 of their largest value."""

Radii = float | Sequence[float] | Mapping[str, float]


def ridge(
    radius_um: Radii,
    *,
    voxel_um: tuple[float, ...],
    method: str = "frangi",
    gamma: float | str = "global",
    alpha: float = 0.5,
    beta: float = 0.5,
) -> Stage:
    """Enhance bright tubes on a dark ground.

    Parameters
    ----------
    radius_um : radii of the tubes as they appear in the image, micrometres: one, several, or
        {min, max, scales} for that many radii at equal steps
    voxel_um : voxel size, (z, y, x) or (y, x); in the plane Frangi's two-dimensional form is used
    method : "frangi"
    gamma : Hessian norm that counts as structure, in units of the image, or "global"
    alpha : tolerance for plates (not used in the plane), dimensionless
    beta : tolerance for blobs, dimensionless

    Returns
    -------
    A stage from any real image to float32 in [0, 1]; the same bits for every block grid and order of radii. Between
    radii of a solid tube the response is largest at the true one within 3 % (R >= 5 voxels).

    Raises
    ------
    InvalidConfiguration : if there is no radius, or a parameter is not positive or not known.

    Notes
    -----
    A. F. Frangi, W. J. Niessen, K. L. Vincken, M. A. Viergever, Multiscale vessel enhancement filtering, MICCAI 1998,
    LNCS 1496, 130, doi:10.1007/BFb0056195. Eigenvalues in closed form: O. K. Smith, Commun. ACM 4, 168 (1961),
    doi:10.1145/355578.366316.

    The radius is that of the image, point spread function included. In the plane a tube is seen in projection and
    answers most 1.18 times above its radius, a flat stripe sqrt(2) times above its half width.

    A voxel that is NaN reaches no response: it compares as not above 0. Inputs are checked where they are read.
    """
    if method != "frangi":
        raise InvalidConfiguration(f"ridge: method {method!r} is not known; the only one is frangi")
    for name, value in (("alpha", alpha), ("beta", beta), *((("gamma", gamma),) if gamma != "global" else ())):
        if not _positive(value):
            way_out = ", or global" if name == "gamma" else ""
            raise InvalidConfiguration(f"ridge: {name} is {value!r}, but must be a positive number{way_out}")
    radii = _radii(radius_um)
    sigmas = tuple(tuple(r / sqrt(2) / h for h in voxel_um) for r in radii)
    halo = _halo(sigmas)
    asks = {"gamma": _ridge_norm(radii, sigmas, halo)} if gamma == "global" else {}
    return Stage(
        "ridge",
        {"radius_um": radii, "method": method, "gamma": gamma, "alpha": alpha, "beta": beta},
        partial(_ridge, sigmas=sigmas, gamma=None if gamma == "global" else float(gamma), alpha=alpha, beta=beta),
        halo,
        output=_likeness,
        cost=_cost(sigmas, 9.0),
        asks=asks,
    )


def derivative_weights(sigma: float, truncate: float = TRUNCATE) -> np.ndarray:
    """Gaussian smoothing and its first and second derivative, sampled: (3, radius + 1) from the centre outwards.

    sigma : standard deviation, voxels, > 0. The derivatives are in units of sigma: times sigma, times sigma squared.

    Sampled derivatives leak where the kernel is cut or sigma is small. Each is therefore scaled so that it is exact on
    polynomials of its degree (1, x, x^2 / 2); the centre of the second derivative is minus the sum of the rest. For
    small sigma they become central differences, and the radius is at least 1.
    """
    x = np.arange(max(1, int(truncate * sigma + 0.5)) + 1.0)
    bell = np.exp(-0.5 * (x / sigma) ** 2)
    bell /= bell[0] + 2 * bell[1:].sum()
    # Relative to the nearest neighbour, so that something is left where the bell itself has sunk to 0.
    flank = np.exp(-0.5 * (np.maximum(x, 1) ** 2 - 1) / sigma**2)
    slope = x * flank
    slope *= sigma / (2 * (x * slope).sum())
    bend = (x**2 - sigma**2) * flank
    bend[0] = 0
    bend *= sigma**2 / (x**2 * bend).sum()
    bend[0] = -2 * bend[1:].sum()
    return np.stack([bell, slope, bend])


def _ridge(
    array: Array,
    *,
    at: At,
    answers: Mapping[str, Answer],
    sigmas: Sequence[Sequence[float]],
    gamma: float | None,
    alpha: float,
    beta: float,
) -> Array:
    from cristae.filters import ridge_kernel

    kernel = pick(array, ridge_plain.response, numpy=ridge_kernel.response)
    known = answers["gamma"].number("gamma") if gamma is None else gamma
    return kernel(array, at.out.within(at.reads[0]), _scales(sigmas), known, alpha, beta)


def _ridge_norm(radii: tuple[float, ...], sigmas: tuple[tuple[float, ...], ...], halo: Halo) -> Measure:
    """The largest Hessian norm of the frame over all scales; the answer is {"gamma"}, half of it."""
    return Measure(
        "ridge_norm",
        {"radius_um": radii},
        partial(_norm, sigmas=sigmas),
        _largest,
        _half,
        halo,
        cost=_cost(sigmas, 3.0),
    )


def _norm(array: Array, *, at: At, answers: Mapping[str, Answer], sigmas: Sequence[Sequence[float]]) -> Partial:
    from cristae.filters import ridge_kernel

    kernel = pick(array, ridge_plain.largest_norm, numpy=ridge_kernel.largest_norm)
    return {"norm": np.array(kernel(array, at.out.within(at.reads[0]), _scales(sigmas)), np.float64)}


def _largest(partials: Sequence[Partial]) -> Partial:
    return {"norm": np.array(max((p["norm"].item() for p in partials), default=0.0), np.float64)}


def _half(partial: Partial) -> Partial:
    return {"gamma": np.asarray(partial["norm"] / 2)}


def _scales(sigmas: Sequence[Sequence[float]]) -> list[tuple[np.ndarray, ...]]:
    return [tuple(derivative_weights(s) for s in scale) for scale in sigmas]


def _halo(sigmas: Sequence[Sequence[float]]) -> Halo:
    radii = [[w.shape[1] - 1 for w in scale] for scale in _scales(sigmas)]
    return tuple((max(axis),) * 2 for axis in zip(*radii, strict=True))


def _likeness(spec: Spec) -> Spec:
    return Spec(spec.shape, "float32", spec.voxel_um, (0.0, 1.0))


def _cost(sigmas: Sequence[Sequence[float]], pointwise_ns: float) -> Cost:
    # Measured with the compiled kernel: 18 to 27 ns a voxel and scale at radii of 7 to 14 voxels, a third of that in
    # the plane; three planes of float32 are held, whatever the number of scales.
    share, tap_ns = (1.0, 0.43) if len(sigmas[0]) == 3 else (0.33, 0.28)
    return Cost(1.0, sum(share * pointwise_ns + tap_ns * TRUNCATE * sum(scale) for scale in sigmas))


def _radii(radius_um: Radii) -> tuple[float, ...]:
    """Radii in ascending order, each once."""
    if isinstance(radius_um, Mapping):
        if set(radius_um) != {"min", "max", "scales"}:
            keys = ", ".join(map(str, radius_um)) or "nothing"
            raise InvalidConfiguration(f"ridge: radius_um needs min, max and scales, and has {keys}")
        low, high, scales = radius_um["min"], radius_um["max"], radius_um["scales"]
        if not isinstance(scales, int) or isinstance(scales, bool) or scales < 1:
            raise InvalidConfiguration(f"ridge: radius_um has {scales!r} scales, but needs a whole number, 1 or more")
        if not (_positive(low) and _positive(high)) or low > high:
            raise InvalidConfiguration(f"ridge: radius_um goes from {low!r} to {high!r} um, but needs 0 < min <= max")
        if scales == 1 and low < high:
            raise InvalidConfiguration(
                f"ridge: radius_um from {low} to {high} um needs 2 scales or more; for one radius give a number"
            )
        return tuple(sorted({float(r) for r in np.linspace(low, high, scales)}))
    radii: list[Any] = list(radius_um) if isinstance(radius_um, (list, tuple, np.ndarray)) else [radius_um]
    if not radii:
        raise InvalidConfiguration("ridge: radius_um is empty; give at least one radius in um")
    for radius in radii:
        if not _positive(radius):
            raise InvalidConfiguration(f"ridge: a radius of {radius!r} um is not a positive number")
    return tuple(sorted({float(r) for r in radii}))


def _positive(value: object) -> bool:
    return not isinstance(value, bool) and isinstance(value, Real) and 0 < float(value) < inf
