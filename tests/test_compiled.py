"""Kernels load without scipy's BLAS, which none of ours calls; a kernel of somebody else's still gets it."""

from __future__ import annotations

import subprocess
import sys

LOADS = """
import sys
import numpy as np
from cristae.filters import gaussian
gaussian(sigma_um=0.2, voxel_um=(0.1, 0.1, 0.1))(np.zeros((8, 16, 16), np.uint16))
assert "numba" in sys.modules and "scipy.linalg" not in sys.modules, "a kernel loads scipy.linalg"

import numba
@numba.njit
def both(a, b):
    return np.dot(a, b), np.convolve(a[0], b[0])
a = np.arange(9.0).reshape(3, 3)
product, along = both(a, a)
np.testing.assert_allclose(product, a @ a)
np.testing.assert_allclose(along, np.convolve(a[0], a[0]))
"""


def test_a_kernel_loads_no_blas_and_takes_it_from_nobody() -> None:
    done = subprocess.run([sys.executable, "-c", LOADS], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
