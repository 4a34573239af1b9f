"""Optics: how a microscope blurs, computed from its numbers, and the blur taken away again.

    microscope      the facts of an objective, its light and its sample; presets by name
    pupil           integrals over the pupil: the light of a point at any depth, scalar or vectorial
    radial          functions of the distance from an axis, and what pixels and pinholes make of them
    psf             the image of a point, for every kind of microscope
    blur            the PSF that a stage undoes: computed or measured, with sum 1
    bead            a measured PSF with an axis, to simulate with
    deconvolution   Richardson-Lucy with total variation
    wiener          Wiener's filter
    transforms      Fourier transforms of blocks that both share

Lengths are micrometres, wavelengths in vacuum; a greater z is deeper in the sample.
"""

from collections.abc import Callable, Mapping

from cristae.blocks.stage import Stage
from cristae.optics.deconvolution import richardson_lucy
from cristae.optics.wiener import wiener

__all__ = ["STAGES", "richardson_lucy", "wiener"]

STAGES: Mapping[str, Callable[..., Stage]] = {
    "richardson_lucy": richardson_lucy,
    "wiener": wiener,
}
"""Stages a pipeline may name; every builder takes the user's parameters and keyword-only `voxel_um`."""
