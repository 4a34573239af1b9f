"""Filters: images become better images or masks. Local kernels, and the global answers some of them need.

    gaussian    smoothing and the difference of two widths
    ridge       bright tubes of given radii (Frangi)
    flatfield   the uneven light of a camera divided away
    balls       opening, closing, top hat and gradient by balls in the sample; median within a ball
    heights     what a mask shows of an image, for `split`
    threshold   masks, at a value, at one that the histogram gives, or at the mean around each voxel
    cuts        where a histogram is parted: Otsu, Li, triangle
    histogram   extremes and histograms of whole frames, the measures behind the thresholds
    resample    the same piece of the sample on voxels of another size

Public lengths are in micrometres. A module `X_kernel` is compiled and imported when first used; its plain twin, for
every array library, stands in `X` or `X_plain`.
"""

from collections.abc import Callable, Mapping

from cristae.blocks.stage import Stage
from cristae.filters.balls import closing, gradient, opening, top_hat
from cristae.filters.flatfield import flatfield
from cristae.filters.gaussian import difference_of_gaussians, gaussian
from cristae.filters.heights import heights
from cristae.filters.median import median
from cristae.filters.resample import resample
from cristae.filters.ridge import ridge
from cristae.filters.threshold import threshold

__all__ = [
    "STAGES",
    "closing",
    "difference_of_gaussians",
    "flatfield",
    "gaussian",
    "gradient",
    "heights",
    "median",
    "opening",
    "resample",
    "ridge",
    "threshold",
    "top_hat",
]

STAGES: Mapping[str, Callable[..., Stage]] = {
    "closing": closing,
    "difference_of_gaussians": difference_of_gaussians,
    "flatfield": flatfield,
    "gaussian": gaussian,
    "gradient": gradient,
    "median": median,
    "opening": opening,
    "resample": resample,
    "ridge": ridge,
    "threshold": threshold,
    "top_hat": top_hat,
}
"""Stages a pipeline may name; every builder takes the user's parameters and keyword-only `voxel_um`."""
