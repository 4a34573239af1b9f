"""Thresholds around each voxel against scikit-image, window for window, and what they refuse; edges of signed images."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import ndimage
from skimage.filters import threshold_local

from cristae.errors import InvalidConfiguration
from cristae.filters import gradient, threshold


def spots(ndim: int) -> np.ndarray:
    rng = np.random.default_rng(4)
    return (ndimage.gaussian_filter(rng.random((9, 40, 44)[-ndim:]), 2) * 3000).astype(np.uint16)


@pytest.mark.parametrize("ndim", [2, 3])
def test_a_gaussian_mean_is_that_of_the_same_window_in_scikit_image(ndim: int) -> None:
    image = spots(ndim)
    reach = 2
    line = np.exp(-0.5 * (np.arange(-reach, reach + 1) / (0.3 * (reach - 1) + 0.8)) ** 2)
    window = line
    for _ in range(ndim - 1):
        window = np.multiply.outer(window, line)
    window /= window.sum()
    around = threshold_local(image, 2 * reach + 1, "generic", offset=7, param=lambda seen: seen @ window.ravel())
    stage = threshold(
        voxel_um=(0.1,) * ndim, method="local", radius_um=0.25, mean="gaussian", offset=-7, dtype="uint16"
    )
    near = np.abs(image - around) < 1e-3  # where the last digit of a mean decides
    assert np.array_equal(stage(image)[~near], (image > around)[~near])
    assert near.mean() < 0.01 and 0.2 < stage(image).mean() < 0.9


def test_the_usual_gaussian_of_scikit_image_is_nearly_the_same() -> None:
    # Its width is (51 - 1) / 6 = 8.33 pixels rather than OpenCV's 8.0, and its tails are longer.
    image = spots(2)
    found = threshold(voxel_um=(0.1, 0.1), method="local", radius_um=2.5, mean="gaussian", dtype="uint16")(image)
    theirs = image > threshold_local(image, 51, "gaussian")
    assert 0.002 < (found != theirs).mean() < 0.05


def test_the_window_is_a_length_on_every_axis() -> None:
    image = np.zeros((9, 21, 21), np.uint16)
    image[4, 10, 10] = 1000
    stage = threshold(
        voxel_um=(0.3, 0.1, 0.2), method="local", radius_um=0.6, mean="gaussian", offset=-1e-9, dtype="uint16"
    )
    reached = np.argwhere(~stage(image))  # below the mean: where the bright voxel is seen
    assert (reached.max(axis=0) - [4, 10, 10]).tolist() == [2, 6, 3]


@pytest.mark.parametrize(
    ("user", "said"),
    [
        ({"method": "adaptive"}, "adaptive is called local here"),
        ({"method": "local", "radius_um": 1, "mean": "median"}, "mean 'median' is not one of box, gaussian"),
        ({"method": "otsu", "mean": "gaussian"}, "belong to method: local"),
    ],
)
def test_a_wrong_word_is_named(user: dict[str, object], said: str) -> None:
    with pytest.raises(InvalidConfiguration, match=said):
        threshold(voxel_um=(1, 1), **user)  # type: ignore[arg-type]


def test_edges_of_signed_images_keep_the_widest_step() -> None:
    image = np.full((5, 6), -32768, np.int16)
    image[2, 3] = 32767
    found = gradient(1.0, voxel_um=(1, 1), dtype="int16")(image)
    assert found.dtype == np.uint16 and found.max() == 65535 and (found > 0).sum() == 5
