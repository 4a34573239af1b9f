"""Topology: whether lines run where they should, and whether pieces, tunnels and cavities are as many.

    clDice   of two masks and their centre lines: the harmonic mean of the part of the predicted line that lies in the truth and of the
             part of the true line that lies in the prediction (Shit and others, CVPR 2021, arXiv:2003.07311)
    Betti    b0 pieces (joined over corners), b2 cavities (ground joined over faces), b1 = b0 + b2 - Euler number; in the plane b1 holes

Thinning has an order over the whole image, so nothing here works on a block: an image is taken whole, up to LARGEST voxels. Counts are
added over images, as if they were one image.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from importlib import import_module
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cristae.evaluation.figures import Counts, Figure, Figures, ratio

LARGEST = 1 << 27
"""Voxels of an image that is thinned: at 14 bytes each, both masks included, a process takes 1.9 GB beside the labels it reads."""

Mask = NDArray[np.bool_]

_PLACES = {2: ("pieces", "holes"), 3: ("pieces", "tunnels", "cavities")}


def figures_of(ndim: int) -> Mapping[str, Figure]:
    """The figures that `topology_figures` gives, in its order."""
    betti = {
        f"betti_{k}_error": Figure(
            f"|{name} of the prediction - {name} of the truth|, of the foreground", 0.0, count=True
        )
        for k, name in enumerate(_PLACES[ndim])
    }
    return {
        "cldice": Figure("2 P S / (P + S), P the part of the predicted centre line in the truth, S of the true one in the prediction"),
        "cldice_precision": Figure("voxels of the predicted centre line in the truth / all of that line"),
        "cldice_sensitivity": Figure("voxels of the true centre line in the prediction / all of that line"),
        **betti,
    }  # fmt: skip


def topology_counts(pred: Mask, truth: Mask) -> Counts:
    """What one image tells: voxels of both centre lines and of their parts in the other mask, Betti numbers of both."""
    lines = {"pred": (pred, truth), "truth": (truth, pred)}
    counts: dict[str, float] = {}
    for name, (own, other) in lines.items():
        line = centre_line(own)
        counts[f"line_{name}"] = float(np.count_nonzero(line))
        counts[f"line_{name}_inside"] = float(np.count_nonzero(line & other))
        counts |= {f"betti_{k}_{name}": float(b) for k, b in enumerate(betti(own))}
    return counts


def topology_figures(counts: Counts, ndim: int) -> Figures:
    """Figures of `figures_of` from the counts of one image, or of several added."""
    precision = ratio(counts["line_pred_inside"], counts["line_pred"])
    sensitivity = ratio(counts["line_truth_inside"], counts["line_truth"])
    if precision > 0 and sensitivity > 0:
        both = 2 * precision * sensitivity / (precision + sensitivity)
    else:  # a line that is nowhere in the other mask, which may be empty; of two empty ones there is nothing to say
        both = 0.0 if counts["line_pred"] or counts["line_truth"] else math.nan
    errors = {f"betti_{k}_error": abs(counts[f"betti_{k}_pred"] - counts[f"betti_{k}_truth"]) for k in range(ndim)}
    return {"cldice": both, "cldice_precision": precision, "cldice_sensitivity": sensitivity, **errors}


def centre_line(mask: Mask) -> Mask:
    """The skeleton of a mask, in the plane by Zhang's thinning, in space by Lee's (scikit-image).

    Both leave nothing of some small objects, or of such that are an even number of voxels wide: of those the deepest voxel stays, the
    first in raster order of several.
    """
    from scipy import ndimage

    thinning: Any = import_module("skimage.morphology")
    line: Mask = thinning.skeletonize(mask).astype(bool)
    joined = np.ones((3,) * mask.ndim, bool)
    pieces, many = ndimage.label(mask, joined)
    kept = np.zeros(many + 1, bool)
    kept[pieces[line]] = True
    for number, box in enumerate(ndimage.find_objects(pieces), 1):
        if not kept[number]:
            own = np.pad(pieces[box] == number, 1)
            deepest = np.unravel_index(np.argmax(ndimage.distance_transform_edt(own)), own.shape)
            line[tuple(s.start + int(d) - 1 for s, d in zip(box, deepest, strict=True))] = True
    return line


def betti(mask: Mask) -> tuple[int, ...]:
    """(b0, b1) of a mask in the plane, (b0, b1, b2) in space."""
    from scipy import ndimage

    from cristae.blocks.measure import ask
    from cristae.morphology.surface import finish_windows, topology

    ones = (1.0,) * mask.ndim
    _, pieces = ndimage.label(mask, np.ones((3,) * mask.ndim, bool))
    rows = ask(topology(voxel_um=ones), mask.view(np.uint8)).arrays["rows"]
    euler = int(finish_windows(np.asarray(rows), voxel_um=ones)["euler_number"].sum())
    if mask.ndim == 2:
        return pieces, pieces - euler
    # What lies outside is one piece of ground, once there is a layer of it all around.
    _, ground = ndimage.label(np.pad(~mask, 1, constant_values=True))
    return pieces, pieces + ground - 1 - euler, ground - 1
