"""Pointing: `cristae psf` as a job: the image of a point as a store, with a picture of its sections.

What a file says of its own microscope may stand in for numbers that are not given; what nobody says is asked for by its option.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from functools import lru_cache, partial
from math import sqrt
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cristae.blocks.measure import Answer
from cristae.blocks.stage import At, Cost, Spec, Stage, no_input
from cristae.blocks.work import Frame, Image, Pass, Target, Work
from cristae.errors import InvalidInput
from cristae.optics.microscope import Microscope, microscope
from cristae.optics.psf import fwhm_um, psf
from cristae.pipeline.job import ArrayOutput, FileOutput, Job
from cristae.pipeline.jobs import stem
from cristae.pipeline.simulating import store_path
from cristae.store.foreign.objective import objective_of
from cristae.store.volume import open_volume

Size = tuple[float, float, float]
OPTIONS = {"na": "--na", "emission_um": "--emission-um", "n_immersion": "--n-immersion"}
SIDE = 360
"""Pixels of a section in the picture."""


def scope_of(preset: str | None, like: str | None, channel: str | None, given: Mapping[str, Any]) -> Microscope:
    """The microscope of a preset, or of an image's own metadata, with what is given by option in place.

    Raises
    ------
    InvalidInput : if the image does not say something that no option gives.
    InvalidConfiguration : if a number cannot be.
    """
    chosen = {name: value for name, value in given.items() if value is not None}
    if like is None:
        return microscope(preset or "epi1", **chosen)
    said = objective_of(like)
    volume = open_volume(like, voxel_um=chosen.get("voxel_um"))
    names = [c.name for c in volume.channels]
    picked = names[volume.channel_index(channel)] if channel is not None else names[0]
    found: dict[str, Any] = {
        "na": said.na,
        "n_immersion": said.n_immersion,
        "emission_um": said.emission_um.get(picked),
    }
    found = {**{name: value for name, value in found.items() if value is not None}, **chosen}
    if missing := [option for name, option in OPTIONS.items() if name not in found]:
        raise InvalidInput(f"{like} does not say all of its optics; give {', '.join(missing)}")
    size = volume.voxel_um if len(volume.voxel_um) == 3 else (0.2, *volume.voxel_um)
    return Microscope(**{"voxel_um": size, **found})


def psf_job(scope: Microscope, shape: tuple[int, int, int], voxel_um: Size | None, depth_um: float, out: str) -> Job:
    """The PSF as an image, and psf.png with its sections."""
    final = store_path(out)
    stage = point(scope, shape, voxel_um, depth_um)
    return Job(
        "psf",
        final,
        (Image(stem(final), {}),),
        (Frame(0, 0),),
        (Pass("compute the PSF", None, (stage,), ({},), (), "image"),),
        (Target("image", "image"),),
        (ArrayOutput("image", 0, "image", final),),
        (FileOutput(final / "psf.png", Sections(scope, shape, voxel_um, depth_um)),),
        extra={"command": "psf", "shape": list(shape), "frames": 1},
    )


def point(scope: Microscope, shape: tuple[int, int, int], voxel_um: Size | None, depth_um: float) -> Stage:
    """The image of a point in the middle of a volume: a stage that reads nothing and returns (z, y, x) float32."""
    whole = _computed(scope, shape, voxel_um, depth_um)
    size = voxel_um if voxel_um is not None else scope.voxel_um
    assert size is not None
    return Stage(
        "psf",
        {
            **{k: v for k, v in asdict(scope).items() if v is not None},
            "depth_um": depth_um,
            "shape": shape,
            "voxel_um": size,
        },
        partial(_cut, scope=scope, shape=shape, voxel_um=voxel_um, depth_um=depth_um),
        halo=(),
        output=partial(Spec, shape, "float32", size, (0.0, float(whole.max()))),
        cost=Cost(bytes_per_voxel=16.0, ns_per_voxel=30.0, fixed_bytes=2.0 * whole.nbytes),
        reads=no_input,
    )


def _cut(*, at: At, answers: Mapping[str, Answer], **facts: Any) -> NDArray[np.float32]:
    found: NDArray[np.float32] = _computed(**facts)[at.out.slices]
    return found


@lru_cache(maxsize=2)
def _computed(
    scope: Microscope, shape: tuple[int, int, int], voxel_um: Size | None, depth_um: float
) -> NDArray[np.float32]:
    return psf(scope, shape, voxel_um=voxel_um, depth_um=depth_um).astype(np.float32)


def theory_um(scope: Microscope) -> tuple[float, float]:
    """(axial, lateral) widths that textbooks give a widefield PSF without aberration: 0.886 of the wavelength over n - sqrt(n^2 - NA^2), and
    0.5145 of it over NA."""
    na = scope.na * scope.pupil_edge
    n = scope.n_sample
    return 0.886 * scope.emission_um / (n - sqrt(max(n**2 - na**2, 0.0))), 0.5145 * scope.emission_um / na


@dataclass(frozen=True)
class Sections:
    """The picture of a PSF: xy through its brightest point, xz through its axis, and its widths beside theory."""

    scope: Microscope
    shape: tuple[int, int, int]
    voxel_um: Size | None
    depth_um: float

    def __call__(self, work: Work, path: Path) -> dict[str, Any]:
        from PIL import Image as Pictures
        from PIL import ImageDraw, ImageFont

        from cristae.pipeline.picture import FAINT, GROUND, INK, MARGIN, write_png

        found = _computed(self.scope, self.shape, self.voxel_um, self.depth_um)
        size = self.voxel_um if self.voxel_um is not None else self.scope.voxel_um
        assert size is not None
        z, y, _ = (n // 2 for n in self.shape)
        scale = SIDE / max(self.shape[1] * size[1], self.shape[2] * size[2], self.shape[0] * size[0])
        panels = []
        for section, rows_um in ((found[z], size[1]), (found[:, y], size[0])):
            light = np.sqrt(section / max(float(found.max()), 1e-30))
            wide, high = (
                max(1, round(n * s * scale)) for n, s in zip(section.shape[::-1], (size[2], rows_um), strict=True)
            )
            grey = Pictures.fromarray(np.uint8(255 * light)).resize((wide, high), Pictures.Resampling.BICUBIC)
            panels.append(grey)
        deep, across = fwhm_um(self.scope, self.depth_um)
        theory = theory_um(self.scope)
        lines = [
            f"{self.scope.modality}, {self.scope.model}, NA {self.scope.na:g}, {1000 * self.scope.emission_um:.0f} nm, "
            f"depth {self.depth_um:g} um",
            f"lateral FWHM {1000 * across:.0f} nm; Airy disc in widefield 0.5145 lambda / NA: {1000 * theory[1]:.0f} nm",
            f"axial FWHM {1000 * deep:.0f} nm; widefield 0.886 lambda / (n - sqrt(n2 - NA2)): {1000 * theory[0]:.0f} nm",
            "square root of the light; left xy, right xz",
        ]
        width = sum(p.width for p in panels) + 3 * MARGIN
        canvas = Pictures.new("RGB", (max(width, 620), max(p.height for p in panels) + 2 * MARGIN + 90), GROUND)
        left = MARGIN
        for panel in panels:
            canvas.paste(panel.convert("RGB"), (left, MARGIN))
            left += panel.width + MARGIN
        pen = ImageDraw.Draw(canvas)
        for n, line in enumerate(lines):
            top = max(p.height for p in panels) + MARGIN + 10 + 20 * n
            pen.text((MARGIN, top), line, FAINT if n else INK, ImageFont.load_default(14))
        path.parent.mkdir(parents=True, exist_ok=True)
        write_png(path, np.asarray(canvas))
        return {"fwhm_um": [deep, across]}
