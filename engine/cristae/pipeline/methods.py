"""Methods: a paragraph for a paper: what was done to which images, with which versions and parameters."""

from __future__ import annotations

import inspect
from collections.abc import Mapping, Sequence
from typing import Any

from cristae.blocks.stage import Stage
from cristae.filters import heights
from cristae.labels import within
from cristae.pipeline.generation import versions
from cristae.pipeline.inputs import Inputs
from cristae.pipeline.operations import stages
from cristae.store.projected import Projected
from cristae.store.volume import Volume

NAMED = ("numpy", "scipy", "scikit-image")
"""Packages whose algorithms decide a result, beside our own."""

OF_STEPS = {"segment": ("torch", "monai")}
"""And those of single steps."""


LABELLING = ("label", "label_ids", "split")
"""Steps that find objects; without one nothing was segmented."""


def paragraph(
    name: str,
    channel: str,
    steps: Sequence[Stage],
    columns: Sequence[str],
    volumes: Sequence[Volume],
    inputs: Inputs,
    background: float = 0,
) -> str:
    """One object's paragraph, in Markdown. Step by step: what the step does, and every parameter it had."""
    installed = versions()
    named = dict.fromkeys((*NAMED, *(package for stage in steps for package in OF_STEPS.get(stage.name, ()))))
    known = ", ".join(f"{package} {installed[package]}" for package in named if package in installed)
    done = "; ".join(f"({n}) {_sentence(stage)}" for n, stage in enumerate(steps, 1))
    taken = f", sum, mean, min and max less a background of {background:g} in each voxel" if background else ""
    measured = (
        f" Objects were measured on the raw image, not on a filtered one{taken}; columns.csv defines each column, and summary.csv "
        "lists counts and thresholds of every image."
        if columns
        else ""
    )
    made = "segmented in" if any(stage.name in LABELLING for stage in steps) else "computed from"
    return (
        f"# Methods: {name}\n\n"
        f"{name} was {made} {channel} of {_images(volumes, inputs)} with cristae {installed.get('cristae', '')} "
        f"(Python {installed['python']}; {known}). The steps were: {done}. Lengths are in micrometres.{measured} "
        "The result does not depend on the blocks in which it was computed.\n"
    )


def _sentence(stage: Stage) -> str:
    builder = {**stages(), "heights": heights, "within": within}[stage.name]
    about = (inspect.getdoc(builder) or "").split("\n\n")[0].strip().rstrip(".")
    about = " ".join(about.split())
    given = ", ".join(f"{key} = {_shown(value)}" for key, value in stage.params.items() if value is not None)
    return f"{stage.name}: {about[:1].lower()}{about[1:]}" + (f" ({given})" if given else "")


def _shown(value: Any) -> str:
    if isinstance(value, Mapping):
        return ", ".join(f"{key} {_shown(inner)}" for key, inner in value.items())
    if isinstance(value, list | tuple):
        return ", ".join(map(_shown, value))
    return f"{value:g}" if isinstance(value, float) else str(value)


def _images(volumes: Sequence[Volume], inputs: Inputs) -> str:
    first = volumes[0]
    sizes = " x ".join(f"{size:g}" for size in first.voxel_um)
    voxel = "voxels" if len(first.voxel_um) == 3 else "pixels"
    axes = ", ".join(first.spatial_axes)
    images = "one image" if len(volumes) == 1 else f"{len(volumes)} images"
    if inputs.time is not None:
        over = f", time points {inputs.time[0]} to {inputs.time[1] - 1}"
    else:
        frames = sum(volume.frames for volume in volumes)
        over = f", {frames} time points in all" if frames > len(volumes) else ""
    if isinstance(first, Projected):
        over = f"; the brightest voxel along z of {first.depth} planes{over}"
    box = ", ".join(f"{axis} {start} to {stop - 1}" for axis, (start, stop) in (inputs.crop or {}).items())
    return f"{images} ({voxel} of {sizes} um along {axes}{over}{f', cropped to the voxels {box}' if box else ''})"
