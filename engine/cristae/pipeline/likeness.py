"""Likeness: a course changed so that its simulated scenes look as an image's microscope would show them.

The voxel size is the image's own. Where its file says aperture, immersion and wavelength, every scene of cells is seen through such
an objective in place of those of the course; where it does not, the microscopes stay as they are.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

from cristae.errors import InvalidConfiguration
from cristae.pipeline.course import load_course, names
from cristae.pipeline.inputs import Inputs
from cristae.store.foreign.objective import objective_of

SMALLEST_UM, LARGEST_UM = 0.03, 0.3
"""Of a pixel for which scenes are made."""


@dataclass(frozen=True)
class Likeness:
    """What changes, as settings of a course, and what a person should read of it."""

    course: str
    settings: tuple[str, ...]
    sentence: str


def likeness(image: str, inputs: Inputs, course: str, preset: bool) -> Likeness:
    """How a course must change to be like an image.

    course : a path, or the name of a preset; "mito" is mito-2d or mito-3d, as the image has axes

    Raises
    ------
    InvalidConfiguration : if the image's voxels are no microscope's, or the course learns from no scenes.
    """
    volume = inputs.open(image)
    axes = len(volume.voxel_um)
    if preset and course not in names() and f"{course}-{axes}d" in names():
        course = f"{course}-{axes}d"
    plan = load_course(course, (), preset)
    size = [round(v, 6) for v in volume.voxel_um[-plan.card.ndim :]]
    if len(size) < plan.card.ndim:
        raise InvalidConfiguration(
            f"{plan.name} is for stacks, and {image} is one plane; give --preset of a model of the plane"
        )
    if not plan.simulated:
        raise InvalidConfiguration(f"{course} learns from images of your own, not from scenes; leave --like out")
    if not SMALLEST_UM <= size[-1] <= LARGEST_UM or size[-1] != size[-2]:
        raise InvalidConfiguration(
            f"{image} has pixels of {size[-2]:g} x {size[-1]:g} um, and scenes are made for square ones of {SMALLEST_UM:g} to {LARGEST_UM:g} um"
        )
    settings = [
        f"model.voxel_um={json.dumps(size)}",
        f"model.name={plan.name}-like-{Path(image).name.partition('.')[0]}",
    ]
    said = objective_of(image)
    channel = volume.channels[volume.channel_index(inputs.channel) if inputs.channel is not None else 0].name
    optics = {"na": said.na, "n_immersion": said.n_immersion, "emission_um": said.emission_um.get(channel)}
    known = {name: value for name, value in optics.items() if value is not None}
    if {"na", "n_immersion"} <= set(known):
        scenes = plan.entry.data.simulate.scenes if plan.entry.data.simulate else []
        settings += [
            f"data.simulate.scenes.{n}.change.optics={json.dumps(known)}"
            for n, scene in enumerate(scenes)
            if scene.cells
        ]
        told = ", ".join(f"{name} {value:g}" for name, value in known.items())
    else:
        told = "the microscopes of the course, since the file does not say its aperture and immersion"
    return Likeness(
        course, tuple(settings), f"like {Path(image).name}: voxels of {' x '.join(f'{v:g}' for v in size)} um; {told}"
    )
