"""Layers: the light of any number of emitters in a frame, by gathering them in layers and folding these with the optics.

Emitters are spread over the fine grid by cubic B-splines, and over four layers by Lagrange's polynomial; each layer becomes a
spectrum, each plane a sum of spectra times those of the PSF, and an image again. So the cost hardly depends on the number
of emitters. What a B-spline blurs, the spectra of `transfer` have in them backwards.

The spreading is that of non-uniform Fourier transforms (A. Dutt, V. Rokhlin, SIAM J. Sci. Comput. 14, 1368 (1993),
doi:10.1137/0914081).
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from cristae.array import Array, fft, namespace, pick, to_host
from cristae.simulation import layers_kernel
from cristae.simulation.transfer import SPACING_UM, Frame, Transfer

Floats = NDArray[np.float64]


def imaged(emitters: Array, photons: Array, through: Transfer, pixels: int, *, spacing_um: float = SPACING_UM) -> Array:
    """The image of emitters in a frame.

    Parameters
    ----------
    emitters : (n, 3) floats of numpy or cupy; (z, y, x) in um: z is the depth, y and x are counted from the corner of the first
        pixel that is wanted. They may lie outside it by as much as the frame has room.
    photons : (n,) light of each
    through : the optics, for this frame
    pixels : how many pixels of each side are wanted, the first of the frame

    Returns
    -------
    (planes, pixels, pixels) float32 in the emitters' library, photons in each pixel.
    """
    xp = namespace(emitters)
    frame = through.frame
    spread, fold = (
        pick(emitters, spread_plain, numpy=layers_kernel.spread),
        pick(emitters, fold_plain, numpy=layers_kernel.fold),
    )
    depth = (emitters[:, 0] - through.first_um) / spacing_um  # in layers
    layer = xp.clip(xp.floor(depth), 1, through.layers - 3).astype(xp.int16)
    order = xp.argsort(layer, kind="stable")
    starts = np.concatenate([[0], np.cumsum(to_host(xp.bincount(layer, minlength=through.layers)))])
    depth, photons = depth[order], photons[order]
    places = emitters[order, 1:]
    places *= frame.fine / frame.pixel_um
    places -= 0.5 * frame.fine
    del layer, order
    lit = _rows(places[:, 0], frame.samples)
    planes = xp.zeros((through.low.shape[0], *frame.bins), xp.complex64)
    open_ = xp.zeros((4, frame.samples, frame.samples), xp.float32)  # layers that still get light: l is number l % 4
    for line in range(through.layers):
        home = line + 1  # emitters between layers h and h + 1 go to h - 1 .. h + 2, so `line` gets no more after these
        if home < through.layers and starts[home] < starts[home + 1]:
            those = slice(int(starts[home]), int(starts[home + 1]))
            spread(open_, home, places[those], photons[those], depth[those] - home)
        if starts[max(line - 2, 0)] < starts[min(line + 2, through.layers)]:
            fold(planes, _spectrum(open_[line % 4], frame, lit), line, through)
            open_[line % 4] = 0
    return _images(planes, frame, pixels)


def spread_plain(layers: Array, home: int, at: Array, light: Array, part: Array) -> None:
    """Add (n,) light at (n, 2) places to the four layers around, each over 4 x 4 samples of a square grid that goes round.

    layers : (4, n, n); layer l is number l % 4
    part : (n,) how far each emitter is from layer `home` to the next; the weights of layers home - 1 .. home + 2 are Lagrange's
    """
    xp = namespace(layers)
    first = xp.floor(at).astype(xp.int64)
    weights = _spline(xp, at - first)
    n = layers.shape[1]
    for tap, share in enumerate(_shares(part)):
        for dy in range(4):
            for dx in range(4):
                where = ((first[:, 0] + dy - 1) % n, (first[:, 1] + dx - 1) % n)
                lit = light * share * weights[dy][:, 0] * weights[dx][:, 1]
                xp.add.at(layers[(home - 1 + tap) % 4], where, lit.astype(layers.dtype))


def _shares(t: Array) -> list[Array]:
    """Lagrange's weights of the layers at -1, 0, 1 and 2, for what lies at t."""
    return [
        -t * (t - 1) * (t - 2) / 6,
        (t + 1) * (t - 1) * (t - 2) / 2,
        -(t + 1) * t * (t - 2) / 2,
        (t + 1) * t * (t - 1) / 6,
    ]


def _spline(xp: Array, t: Array) -> list[Array]:
    """Cubic B-spline at t + 1, t, 1 - t, 2 - t from its middle."""
    return [(1 - t) ** 3 / 6, (4 - 6 * t**2 + 3 * t**3) / 6, (1 + 3 * t + 3 * t**2 - 3 * t**3) / 6, t**3 / 6]


def fold_plain(planes: Array, spectrum: Array, line: int, through: Transfer) -> None:
    """Add a layer to (planes, rows, columns): its spectrum times that of the PSF between it and each plane in reach."""
    xp = namespace(planes)
    table = xp.asarray(through.table).reshape(-1, *spectrum.shape)
    for p in np.flatnonzero(through.low[:, line] >= 0):
        w = xp.float32(through.share[p, line])
        psf = table[int(through.low[p, line])] * (1 - w) + table[int(through.high[p, line])] * w
        planes[p] += spectrum * psf


def _rows(y: Array, samples: int) -> slice:
    """Rows of the grid that emitters at these places may reach; all of them where some come in on the other side."""
    if not len(y):
        return slice(0, 0)
    first, last = int(y.min()) - 2, int(y.max()) + 3
    return slice(first, last) if first >= 0 and last <= samples else slice(0, samples)


def _spectrum(grid: Array, frame: Frame, lit: slice) -> Array:
    """The bins of a grid that is dark outside some rows."""
    xp, transform = namespace(grid), fft(grid)
    k = frame.kept
    rows = xp.zeros((frame.samples, k + 1), xp.complex64)
    rows[lit] = transform.rfft(grid[lit], axis=1)[:, : k + 1]
    found = transform.fft(rows, axis=0, overwrite_x=True)
    return xp.concatenate([found[: k + 1], found[-k:]]) if k else found[:1]


def _images(planes: Array, frame: Frame, pixels: int) -> Array:
    """Back from the bins to the pixels that are wanted; samples between pixel centres are not computed."""
    xp, transform = namespace(planes), fft(planes)
    n, k = frame.samples, frame.kept
    out = xp.empty((len(planes), pixels, pixels), xp.float32)
    last = pixels * frame.fine
    for number in range(len(planes)):
        tall = xp.zeros((n, k + 1), xp.complex64)
        tall[: k + 1] = planes[number, : k + 1]
        if k:
            tall[-k:] = planes[number, k + 1 :]
        rows = transform.ifft(tall, axis=0)[: last : frame.fine]
        out[number] = transform.irfft(rows, n, axis=1)[:, : last : frame.fine]
    out *= frame.fine**2
    return out
