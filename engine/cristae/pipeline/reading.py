"""Reading: how a pipeline sees its images: as they are or projected, and what lies beside them."""

from __future__ import annotations

from collections.abc import Sequence

from cristae.errors import InvalidConfiguration
from cristae.filters.flatfield import FEWEST
from cristae.pipeline.chain import flat_name, refuse_keep, said_where
from cristae.pipeline.file import Object, PipelineFile
from cristae.pipeline.inputs import absolute
from cristae.pipeline.objects import spec_of
from cristae.pipeline.operations import build
from cristae.store.flat import flat_of
from cristae.store.projected import projected
from cristae.store.volume import Volume


def seen_by(pipeline: PipelineFile, volume: Volume) -> Volume:
    """What the objects of a pipeline work on: the volume, or where they begin with `project`, its projection.

    Raises
    ------
    InvalidConfiguration : if only some of them do, or not at once, or it is of another kind.
    InvalidInput : if the volume is no stack.
    """
    ways = {_projection(item) for item in pipeline.objects}
    if ways == {None}:
        return volume
    if None in ways:
        raise InvalidConfiguration(f"{pipeline.path}: only some objects begin with project; give it to all or to none")
    if other := ways - {"max"}:
        raise InvalidConfiguration(f"{pipeline.path}: project: {other.pop()} is not known; the one method is max")
    return projected(volume)


def _projection(item: Object) -> str | None:
    if any(step.name == "project" for step in item.steps[1:]):
        raise InvalidConfiguration(f"object {item.name}: project is how the image is read; make it the first step")
    if not item.steps or item.steps[0].name != "project":
        return None
    refuse_keep(item.steps[0], "it makes no array")
    return str(item.steps[0].params.get("method", "max"))


def beside(pipeline: PipelineFile, volume: Volume, seen: Volume) -> dict[str, Volume]:
    """What the steps of a pipeline read beside an image, by name: flat fields. seen : the image as they work on it

    Raises
    ------
    InvalidInput : if a flat field is not one of this image.
    """
    corner = (volume.origin[-2], volume.origin[-1]) if volume.origin else None
    found: dict[str, Volume] = {}
    for item in pipeline.objects:
        for step in (step for step in item.steps if step.name == "flatfield" and step.params.get("image")):
            with said_where(step):
                params = build(step.name, step.params, spec_of(seen)).params
            found[flat_name(item)] = flat_of(absolute(step.params["image"]), seen, corner, params.get("offset", 0.0))
    return found


def refuse_fields(pipeline: PipelineFile, volumes: Sequence[Volume], frames: int) -> None:
    """A median of fields wants fields, and all of one camera.

    Raises
    ------
    InvalidConfiguration : if a step takes the median of fewer than FEWEST, or of fields that differ in size.
    """
    if not any(step.name == "flatfield" and step.params.get("of") for item in pipeline.objects for step in item.steps):
        return
    if frames < FEWEST:
        raise InvalidConfiguration(
            f"{pipeline.path}: flatfield of fields wants {FEWEST} images or time points to find the light they share, and has {frames}; "
            "give more, or flatfield: {image: FILE}"
        )
    first = volumes[0]
    for other in volumes[1:]:
        if other.spatial_shape[-2:] != first.spatial_shape[-2:]:
            sizes = (" x ".join(map(str, volume.spatial_shape[-2:])) for volume in (other, first))
            raise InvalidConfiguration(
                f"{pipeline.path}: flatfield of fields wants fields of one size, and {other.path} is {next(sizes)} pixels but "
                f"{first.path} {next(sizes)}; run them apart"
            )
