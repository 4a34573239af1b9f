"""Segmenting: `cristae segment` as a pipeline: what its options say becomes steps, and goes the way of any pipeline file.

segment -> split by probability -> label -> measure, in one object called after the class; or threshold, and split by distance, in place of
the one split
"""

from __future__ import annotations

import io
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from math import isfinite
from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml.comments import CommentedMap, CommentedSeq

from cristae.errors import InvalidConfiguration, InvalidInput
from cristae.inference.familiarity import KEY
from cristae.inference.named import Model, model_of
from cristae.pipeline.familiar import familiar
from cristae.pipeline.file import NAME, Object, PipelineFile, Step
from cristae.pipeline.objects import one_channel
from cristae.store.volume import Volume

GROUPS = ("shape", "intensity")
"""Columns of the table, unless others are asked for: those of `measure`."""

SAID = 0.01
"""How far a voxel may be from those of the training before it is said, as a share."""


@dataclass(frozen=True)
class Wish:
    """What a user asks of a model; lengths in micrometres, None where a step's own default holds."""

    model: str  # a name or a path
    of: str | None = None  # the class; may be left out where the model has one
    name: str | None = None  # of the result; by default the class
    channel: str | None = None
    above: float = 0.5  # probability
    min_diameter_um: float | None = None  # by default what the card says, if it does
    separate_um: float = 0.0
    split: bool = True  # where the probability dips between objects
    tile: tuple[int, ...] | None = None
    overlap: float | None = None
    blend: str = "gaussian"
    mirror: bool = False
    precision: str = "single"
    keep: bool = False
    measure: Sequence[str] = GROUPS


def pipeline_of(wish: Wish) -> PipelineFile:
    """The pipeline that does what is asked.

    Raises
    ------
    InvalidConfiguration : if there is no such model or class, or a number makes no sense.
    InvalidInput : if the file is no model.
    """
    model = model_of(wish.model)
    which = _class(model, wish.of)
    name = wish.name or re.sub(r"[^A-Za-z0-9_.-]+", "-", which).strip("-.") or "objects"
    if not NAME.fullmatch(name):
        raise InvalidConfiguration(
            f"--name {name} cannot name a result; a name has letters, digits, '_', '-' and '.', the first one a letter or digit"
        )
    if not 0 < wish.above < 1:
        raise InvalidConfiguration(f"--above {wish.above:g} is no probability between 0 and 1; 0.5 is the usual one")
    for option, length in (("--separate-um", wish.separate_um), ("--min-diameter-um", wish.min_diameter_um or 0.0)):
        if not (isfinite(length) and length >= 0):
            raise InvalidConfiguration(f"{option} {length:g} is no length; give micrometres, or 0")
    if wish.separate_um and not wish.split:
        raise InvalidConfiguration(
            f"--separate-um {wish.separate_um:g} says how touching objects are parted, and --no-split that they are not; leave one of them out"
        )
    network: dict[str, Any] = {"model": wish.model}
    network |= {"of": which} if len(model.card.classes) > 1 else {}
    network |= {"tile": list(wish.tile)} if wish.tile is not None else {}
    network |= {"overlap": wish.overlap} if wish.overlap is not None else {}
    network |= {"blend": wish.blend} if wish.blend != Wish.blend else {}
    network |= {"mirror": True} if wish.mirror else {}
    network |= {"precision": wish.precision} if wish.precision != Wish.precision else {}
    steps = (
        Step("segment", network, keep=wish.keep),
        *_objects(wish, _min_diameter(wish, model)),
        Step("measure", {"columns": list(wish.measure)}),
    )
    return PipelineFile((Object(name, wish.channel, steps),))


def _objects(wish: Wish, min_diameter_um: float) -> Iterator[Step]:
    """From probabilities to labels."""
    if wish.split and not wish.separate_um:
        yield Step("split", {"by": "probability", "above": wish.above})
    else:
        yield Step("threshold", {"value": wish.above})
    if wish.separate_um:
        yield Step("split", {"min_separation_um": wish.separate_um})
    yield Step("label", {"min_diameter_um": min_diameter_um} if min_diameter_um else {})


def _min_diameter(wish: Wish, model: Model) -> float:
    """The smallest object: as asked for, or as the model's maker says it, or any."""
    if wish.min_diameter_um is not None:
        return wish.min_diameter_um
    told = model.card.training.get("min_diameter_um", 0)
    sound = isinstance(told, int | float) and not isinstance(told, bool) and isfinite(told) and told >= 0
    return float(told) if sound else 0.0


def _class(model: Model, of: str | None) -> str:
    known = model.card.classes
    if of is None and len(known) == 1:
        return known[0]
    if of not in known:
        lacks = "is not given" if of is None else f"{of} is not one of them"
        raise InvalidConfiguration(f"{model.path.name} knows {', '.join(known)}, and --class {lacks}; name one of them")
    return str(of)


def written(pipeline: PipelineFile, command: str = "") -> str:
    """The pipeline as a file to change and run, in the short form: `load` makes the same pipeline of it. command : what it does"""
    (item,) = pipeline.objects
    lines: CommentedMap = CommentedMap()
    if item.channel is not None:
        lines["channel"] = item.channel
    lines["output"] = _flow({"name": item.name})
    lines["steps"] = [_spelt(step) for step in item.steps]
    text = io.StringIO()
    yaml = YAML(typ="rt", pure=True)
    yaml.indent(mapping=2, sequence=4, offset=2)
    yaml.width = 1000
    yaml.dump(lines, text)
    about = f"# What `{command}` does.\n" if command else ""
    return f"{about}# Change it, and run it: cristae run THIS.yaml IMAGE --out DIR\n{text.getvalue()}"


def _spelt(step: Step) -> Any:
    given = {**step.params, **({"keep": True} if step.keep else {})}
    return {step.name: _flow(given)} if given else step.name


def _flow(facts: dict[str, Any]) -> CommentedMap:
    """A mapping on one line."""
    out = CommentedMap()
    for key, value in facts.items():
        out[key] = CommentedSeq(value) if isinstance(value, list) else value
        if isinstance(value, list):
            out[key].fa.set_flow_style()
    out.fa.set_flow_style()
    return out


LOOKED_AT = 3
"""Images of a command that are compared with what a model was trained on; the others are likely from the same microscope."""


def likeness_of(model: Model, image: Volume, channel: str | int | None) -> str:
    """How far an image is from what a model was trained on, or why that cannot be said; see `familiar`."""
    if KEY not in model.card.training:
        return f"{model.name} says nothing of its training images, so how far this one is from them is not known"
    try:
        return f"{image.name}: {familiar(model.card, model.name, image, one_channel(image, channel)).sentence}"
    except (InvalidConfiguration, InvalidInput) as error:
        return f"not compared with the training images: {error}"


def remarks(model: Model, image: Volume) -> list[str]:
    """What is worth saying of an image before a model sees it, a sentence each; one that names no image is said once for all."""
    ndim = model.card.ndim
    pairs = zip(image.spatial_axes[-ndim:], image.voxel_um[-ndim:], model.card.voxel_um, strict=True)
    other = [f"{axis} {seen:g} for {known:g}" for axis, seen, known in pairs if abs(seen / known - 1) > SAID]
    return [f"voxels are not quite those that {model.name} was trained on, in um: {', '.join(other)}"] if other else []
