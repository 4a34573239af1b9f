"""Filters: images become better images or masks. Local kernels, and the global answers some of them need.

    gaussian    smoothing and the difference of two widths
    ridge       bright tubes of given radii (Frangi)
    threshold   masks, at a value or by Otsu's method
    histogram   extremes and histograms of whole frames, the measures behind the thresholds

Public lengths are in micrometres. A module `X_kernel` is compiled and imported when first used; its plain twin, for
every array library, stands in `X` or `X_plain`.
"""

from collections.abc import Callable, Mapping

from cristae.blocks.stage import Stage
from cristae.filters.gaussian import difference_of_gaussians, gaussian
from cristae.filters.ridge import ridge
from cristae.filters.threshold import threshold

STAGES: Mapping[str, Callable[..., Stage]] = {
    "difference_of_gaussians": difference_of_gaussians,
    "gaussian": gaussian,
    "ridge": ridge,
    "threshold": threshold,
}
"""Stages a pipeline may name; every builder takes the user's parameters and keyword-only `voxel_um`."""
