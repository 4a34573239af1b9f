"""Compiled: numba's `njit`, for kernels that call no BLAS.

numba asks scipy for its BLAS when a process loads its first kernel, whatever that kernel does: scipy.linalg is imported, a
quarter of a second and 16 MB in every process. Told that there is none, numba adds up its own inner products in a loop;
whoever calls `np.dot` in a kernel of his own is asked again then, and gets it.
"""

from __future__ import annotations

from numba import njit
from numba.np import linalg

__all__ = ["njit"]


def _no_blas() -> None:
    raise ImportError("not asked for")


_ensure_blas, linalg.ensure_blas = linalg.ensure_blas, _no_blas
try:
    from numba.np import arraymath  # noqa: F401  # asks once, as it is imported
finally:
    linalg.ensure_blas = _ensure_blas
