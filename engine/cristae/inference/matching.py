"""Matching: which objects of two tiles that overlap are one. Arrays and integers; nothing here knows a volume.

Both tiles looked at the strip they share. What each found there is compared, voxel by voxel, and two objects are one where

    they are alike      more than half of the voxels that either covers are covered by both (IoU > 1/2)
    one is a piece      it is cut off by its tile's face where the other tile goes on, and more than half of what it has in the strip
                        lies in the other

More than half, so that an object is like one of a neighbour at most, and a piece is one's at most (A. Kirillov et al., Panoptic
Segmentation, CVPR 2019, doi:10.1109/CVPR.2019.00963). That objects touch is no evidence: two that abut at a face stay two.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from cristae.grid import Box


@dataclass(frozen=True, slots=True)
class View:
    """What one tile found: ids from 1, dense, 0 for ground."""

    labels: np.ndarray  # (*box) unsigned
    box: Box  # where it looked, in voxels of the volume
    own: Box  # the part whose voxels it decides
    counts: np.ndarray  # (ids,) bool: which of its objects have voxels there


@dataclass(frozen=True, slots=True)
class Met:
    """What two tiles have to do with each other."""

    pairs: np.ndarray  # (k, 2) int64, ids of the one and the other that are one object, sorted
    contested: int  # objects of either that are one with several of the other, of which some are not cut off there
    split: int  # objects of either that go on into the other's own part, and are one with none there


def met(near: View, far: View) -> Met:
    """Compare two tiles where both looked.

    Returns
    -------
    The pairs of objects that are one, and what is doubtful. The same whichever is `near`, but for the order of ids.
    """
    strip = near.box.intersect(far.box)
    if strip.empty:
        return Met(np.empty((0, 2), np.int64), 0, 0)
    one, two = near.labels[strip.within(near.box)], far.labels[strip.within(far.box)]
    m, n = len(near.counts) + 1, len(far.counts) + 1
    both = (one != 0) & (two != 0)
    keys, shared = np.unique(one[both].astype(np.int64) * n + two[both], return_counts=True)
    i, j = np.divmod(keys, n)
    a, b = np.bincount(one.reshape(-1), minlength=m)[i], np.bincount(two.reshape(-1), minlength=n)[j]
    near_cut, far_cut = _cut_off(one, near.box, far.box, m)[i], _cut_off(two, far.box, near.box, n)[j]
    piece = (near_cut & (2 * shared > a)) | (far_cut & (2 * shared > b))
    same = piece | (3 * shared > a + b)
    i, j, near_cut, far_cut = i[same], j[same], near_cut[same], far_cut[same]
    contested = _contested(i, far_cut) + _contested(j, near_cut)
    return Met(np.stack((i, j), axis=1), contested, _ending(near, far, i) + _ending(far, near, j))


def _cut_off(strip: np.ndarray, own: Box, other: Box, ids: int) -> np.ndarray:
    """(ids,) bool: which objects lie at a face of their own tile beyond which the other tile looks. strip : labels where both do."""
    found = np.zeros(ids, bool)
    for axis in range(strip.ndim):
        if own.start[axis] > other.start[axis]:
            found[strip.take(0, axis)] = True
        if own.stop[axis] < other.stop[axis]:
            found[strip.take(-1, axis)] = True
    return found


def _contested(ids: np.ndarray, cut: np.ndarray) -> int:
    """How many objects have several partners, though what parts these is no face. cut : which of the partners are cut off.

    What one tile sees whole, the other may see as several pieces: all of them at a face, beyond which they are joined.
    """
    return int(((np.bincount(ids) > 1) & (np.bincount(ids, ~cut) > 0)).sum())


def _ending(view: View, other: View, paired: np.ndarray) -> int:
    """How many objects of a tile go on into the other's own part, and are none of the other's."""
    there = other.own.intersect(view.box)
    if there.empty:
        return 0
    on = np.zeros(len(view.counts) + 1, bool)
    on[view.labels[there.within(view.box)]] = True
    on[paired] = False
    return int((on[1:] & view.counts).sum())
