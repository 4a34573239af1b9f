"""Compiled loop: eigenvalues of many small symmetric matrices, the axes of as many objects.

A matrix is turned, two axes at a time, until nothing is left beside its diagonal (C. G. J. Jacobi, J. reine angew. Math. 30, 51 (1846)).
Of a covariance the small eigenvalues come out as exact as the large ones (J. Demmel, K. Veselic, SIAM J. Matrix Anal. Appl.
13, 1204 (1992), doi:10.1137/0613074), where methods that reduce first are exact beside the largest only.
"""

from __future__ import annotations

import numpy as np

from cristae.compiled import njit

SWEEPS = 30  # never seen to need more than 8
ROUNDING = 2.0**-53


def eigenvalues(matrices: np.ndarray) -> np.ndarray:
    """(n, d) eigenvalues of (n, d, d) symmetric matrices of float64, least first; d is 2 or 3."""
    turned = np.array(matrices, np.float64, order="C")
    _turn(turned)
    found: np.ndarray = np.sort(np.diagonal(turned, axis1=1, axis2=2), axis=1)
    return found


@njit(nogil=True, cache=True)
def _turn(matrices: np.ndarray) -> None:
    d = matrices.shape[1]
    for i in range(matrices.shape[0]):
        a = matrices[i]
        for _ in range(SWEEPS):
            still = True
            for p in range(d - 1):
                for q in range(p + 1, d):
                    beside = a[p, q]
                    if abs(beside) <= ROUNDING * np.sqrt(abs(a[p, p]) * abs(a[q, q])):
                        continue
                    still = False
                    half = (a[q, q] - a[p, p]) / (2 * beside)
                    t = 1 / (abs(half) + np.sqrt(half * half + 1))
                    t = -t if half < 0 else t
                    c = 1 / np.sqrt(t * t + 1)
                    s = t * c
                    a[p, p] -= t * beside
                    a[q, q] += t * beside
                    a[p, q] = a[q, p] = 0.0
                    for r in range(d):
                        if r != p and r != q:
                            one, other = a[r, p], a[r, q]
                            a[r, p] = a[p, r] = c * one - s * other
                            a[r, q] = a[q, r] = s * one + c * other
            if still:
                break
