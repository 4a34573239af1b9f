"""PSF: what does a scalar PSF cost, and how right is it, against psfmodels?"""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from measuring import Question, Target, Tool, Turn, ask

if TYPE_CHECKING:
    from cristae.optics.microscope import Microscope

VOXEL_UM = (0.1, 0.05, 0.05)
NA, EMISSION_UM, SAMPLE, IMMERSION, GAP_UM, GLASS_UM = 1.4, 0.6, 1.47, 1.515, 150.0, 170.0
DEPTHS_UM = (0, 5)
NODES, IN_PIXEL = 2000, 12
"""Of the brute-force quadrature: over the pupil, and along each side of a pixel."""


def prepare(folder: Path, sizes: Mapping[str, Any]) -> None:
    """Nothing: all that a PSF is made from are numbers."""


def scope() -> Microscope:
    from cristae.optics.microscope import Microscope

    return Microscope(
        na=NA,
        emission_um=EMISSION_UM,
        n_sample=SAMPLE,
        n_immersion=IMMERSION,
        working_distance_um=GAP_UM,
        glass_um=GLASS_UM,
    )


def cristae(turn: Turn, integrate: bool) -> dict[str, float]:
    from cristae.optics.psf import focus_um, psf

    shape, calls = tuple(turn.sizes["shape"]), turn.sizes["calls"]
    worst = 0.0
    psf(scope(), shape, voxel_um=VOXEL_UM, integrate=integrate)
    for depth in DEPTHS_UM:
        with turn.clock(f"depth_{depth}"):
            for _ in range(calls):
                focus_um.cache_clear()
                found = psf(scope(), shape, voxel_um=VOXEL_UM, depth_um=depth, integrate=integrate)
        worst = max(worst, error(found, depth, integrate))
    return {"error": worst}


def error(found: np.ndarray, depth_um: float, integrate: bool) -> float:
    """Of the peak, against brute force: at every pixel for values, at those near the axis and 200 others for means."""
    from cristae.optics.psf import focus_um
    from cristae.optics.pupil import intensity

    planes, rows, columns = found.shape
    stage = focus_um(scope(), depth_um) - (np.arange(planes) - planes // 2) * VOXEL_UM[0]
    y, x = np.mgrid[: rows // 2 + 1, : columns // 2 + 1].reshape(2, -1)
    if integrate:
        near = np.flatnonzero((y < 12) & (x < 12))
        chosen = np.union1d(near, np.random.default_rng(0).choice(len(y), min(200, len(y)), replace=False))
        y, x = y[chosen], x[chosen]
    nodes, weights = np.polynomial.legendre.leggauss(IN_PIXEL) if integrate else (np.zeros(1), np.full(1, 2.0))
    dy, dx = (0.5 * h * nodes for h in VOXEL_UM[1:])
    apart = np.hypot(VOXEL_UM[1] * y[:, None, None] + dy[:, None], VOXEL_UM[2] * x[:, None, None] + dx)
    share = 0.25 * np.outer(weights, weights).ravel()
    expected = np.empty((planes, len(y)))
    for some in np.array_split(np.arange(len(y)), max(1, apart.size // 20000)):
        radii = apart[some].ravel()
        lit = intensity(scope(), radii, stage, depth_um, NODES).reshape(planes, len(some), -1)
        expected[:, some] = lit @ share * (VOXEL_UM[1] * VOXEL_UM[2])
    gap = np.abs(found[:, rows // 2 - y, columns // 2 - x] - expected)
    return float(gap.max() / found.max())


def psfmodels(turn: Turn, oversample: int) -> None:
    import psfmodels as peer

    planes, rows, _ = turn.sizes["shape"]
    z = (np.arange(planes) - planes // 2) * VOXEL_UM[0]
    glass = {"ng": IMMERSION, "ng0": IMMERSION, "tg": GLASS_UM, "tg0": GLASS_UM}
    optics = {"NA": NA, "wvl": EMISSION_UM, "ns": SAMPLE, "ni": IMMERSION, "ni0": IMMERSION, "ti0": GAP_UM, **glass}
    # It wants odd planes; one less is a little less work.
    words = {"dxy": VOXEL_UM[1], "model": "scalar", "oversample_factor": oversample, "normalize": False, **optics}
    peer.make_psf(z, rows - 1, pz=0, **words)
    for depth in DEPTHS_UM:
        with turn.clock(f"depth_{depth}"):
            for _ in range(turn.sizes["calls"]):
                peer.make_psf(z, rows - 1, pz=depth, **words)


OURS = ("cristae", "scipy")
PEER: dict[str, Any] = {
    "needs": ("psfmodels",),
    "install": "psfmodels psutil",
    "packages": ("psfmodels",),
    "environment": "psf",
}
CPU = [f"depth_{depth}_cpu_s" for depth in DEPTHS_UM]

QUESTION = Question(
    "psf",
    "Scalar PSF of 64 x 128 x 128 voxels of 0.1 x 0.05 x 0.05 um, at the coverslip and 5 um deep, ten times each",
    full={"shape": (64, 128, 128), "calls": 10},
    small={"shape": (16, 32, 32), "calls": 2},
    prepare=prepare,
    tools=(
        Tool("cristae, points", partial(cristae, integrate=False), packages=OURS),
        Tool("cristae, integrated", partial(cristae, integrate=True), packages=OURS),
        Tool("psfmodels", partial(psfmodels, oversample=3), **PEER),
        Tool("psfmodels, coarsest", partial(psfmodels, oversample=1), **PEER),
    ),
    targets=(
        *(Target(cpu, "psfmodels", ("cristae, points",), at_least=10) for cpu in CPU),
        *(Target(cpu, "psfmodels, coarsest", ("cristae, points",), at_least=3) for cpu in CPU),
        *(Target(cpu, "psfmodels", ("cristae, integrated",), at_least=1) for cpu in CPU),
        Target("error", "cristae, points", at_most=1e-6),
        Target("error", "cristae, integrated", at_most=1e-6),
    ),
    notes=(
        f"The error is the largest difference, of the peak, to a sum over {NODES} nodes in the pupil, and {IN_PIXEL} x {IN_PIXEL} in each "
        "pixel where its mean is wanted. psfmodels averages 3 x 3 values a pixel by default, one at its coarsest; its plane has "
        "127 pixels, since it wants them odd. Light 5 um deep is computed around the depth's own focus by cristae, around the nominal one by "
        "psfmodels. psfmodels is GPL, and cristae never imports it."
    ),
    repeat=3,
)

if __name__ == "__main__":
    ask(QUESTION)
