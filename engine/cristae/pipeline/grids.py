"""Grids: on which voxels an object's arrays lie, where a step changes them, and what cannot be done across two grids.

`resample` is the one step that does. A network that was trained on other voxels gets one before it and one after it, so that what
follows, its labels too, lies on the image's own grid.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import replace
from math import isclose
from pathlib import Path

from cristae.blocks.stage import Spec, Stage
from cristae.blocks.work import Image
from cristae.errors import InvalidConfiguration
from cristae.filters import resample
from cristae.grid import Shape
from cristae.pipeline.compile import Node
from cristae.pipeline.file import Object, Step
from cristae.pipeline.operations import build

FAR, FARTHEST = 3.0, 8.0
"""How many times larger or smaller than a network's a voxel may be along an axis: until it is warned of, and until it is refused."""

OF_ANY_VOXEL = ("resample", "segment")
"""Steps whose stage is the same whatever the size of the voxels that they get; a network's are checked before."""


def on_grid(spec: Spec, image: Spec) -> bool:
    """Whether an array lies voxel on voxel on another."""
    return spec.shape == image.shape and all(map(isclose, spec.voxel_um, image.voxel_um))


def um(lengths: tuple[float, ...]) -> str:
    """Lengths as a sentence has them."""
    return " x ".join(f"{n:.4g}" for n in lengths)


def way_back(image: Spec) -> str:
    """The step that brings an array to the image's own grid."""
    return f"resample: {{to_um: [{', '.join(f'{v:g}' for v in image.voxel_um)}]}}"


def refuse_grid(what: str, before: Spec, image: Spec) -> None:
    """What is read beside the image lies on the image's own voxels."""
    if not on_grid(before, image):
        raise InvalidConfiguration(
            f"{what} looks at an array on the image's own voxels of {um(image.voxel_um)} um, and gets {um(before.voxel_um)}; "
            f"put {way_back(image)} before it"
        )


def with_voxels_of(step: Step, parent: Node | None, spec: Spec) -> Node:
    """A network, and around it the way to its voxels and back, where they are not the image's."""
    before = parent.spec if parent else spec
    wanted = _voxels_for(step, before)
    if wanted == before.voxel_um:
        stage = build(step.name, step.params, before)
        return Node(step.label or step.name, stage, parent, stage.output(before), step.keep)
    there = resample(to_um=wanted, voxel_um=before.voxel_um)
    parent = Node("resample", there, parent, there.output(before))
    # Of few voxels the size is rounded by more than the network's tolerance, which no other grid could help.
    stage = build(step.name, step.params, replace(parent.spec, voxel_um=wanted))
    node = Node(step.label or step.name, stage, parent, stage.output(parent.spec), step.keep)
    back = resample(to_um=before.voxel_um, voxel_um=node.spec.voxel_um)
    return Node("resample", back, node, back.output(node.spec))


def _voxels_for(step: Step, spec: Spec) -> tuple[float, ...]:
    """The image's own voxels, but along each axis that is too far from the network's those it was trained on."""
    from cristae.inference.card import SUFFIX, read_card
    from cristae.inference.named import model_path, names
    from cristae.inference.segment import VOXEL_TOLERANCE

    model, own = step.params.get("model"), spec.voxel_um
    if not isinstance(model, str) or not (model.endswith(SUFFIX) or model in names()):
        return own  # which the stage refuses
    card, _ = read_card(model_path(model))
    if card.ndim > len(own):
        return own
    wanted = (*own[: len(own) - card.ndim], *card.voxel_um)
    wanted = tuple(v if abs(v / w - 1) <= VOXEL_TOLERANCE else w for v, w in zip(own, wanted, strict=True))
    most = max(max(v / w, w / v) for v, w in zip(own, wanted, strict=True))
    said = (
        f"{Path(model).name} was trained on voxels of {um(card.voxel_um)} um and the image has {um(own[-card.ndim :])}"
    )
    if most > FARTHEST:
        raise InvalidConfiguration(
            f"step segment: {said}, {most:.3g} times as large or small along an axis, where nothing the network knows can be seen; "
            f"use a model for such voxels (at most {FARTHEST:g} times)"
        )
    if most > FAR:
        warnings.warn(
            f"step segment: {said}, {most:.3g} times as large or small along an axis; the image is brought to them and the result back, "
            "but look at it before you trust it",
            stacklevel=2,
        )
    return wanted


def refuse_apart(item: Object, apart: Mapping[str, Spec | None], image: Spec, in_store: bool) -> None:
    """What cannot be where a result lies on other voxels than the image's. apart : its spec, by object; None where it does not"""
    own = apart[item.name]
    if own is not None and in_store:
        raise InvalidConfiguration(
            f"object {item.name} ends on voxels of {um(own.voxel_um)} um, and its image's store holds those of {um(image.voxel_um)}; "
            f"give --out DIR, or put {way_back(image)} before label"
        )
    holder = apart[item.within] if item.within is not None else None
    if holder is not None:
        raise InvalidConfiguration(
            f"object {item.name} is within {item.within}, whose labels have voxels of {um(holder.voxel_um)} um and not the image's "
            f"{um(image.voxel_um)}; put {way_back(image)} before its label"
        )


def refuse_unlike(name: str, steps: Sequence[Stage], images: Sequence[Image]) -> None:
    """One set of stages serves every image; one that was made for voxels of a size must get that size from each.

    Voxels cover what the image's do, so that after `resample` their size depends a little on its shape.
    """
    if not any(stage.regrids for stage in steps):
        return
    seen: dict[str, tuple[str, tuple[float, ...]]] = {}
    shapes: dict[Shape, Image] = {}
    for image in images:
        shapes.setdefault(image.volumes["input"].spatial_shape, image)
    for image in shapes.values():
        volume = image.volumes["input"]
        spec = Spec(volume.spatial_shape, volume.dtype, volume.voxel_um)
        for n, stage in enumerate(steps):
            if stage.name not in OF_ANY_VOXEL:
                _same(name, f"step {stage.name}", seen.setdefault(str(n), (image.name, spec.voxel_um)), image, spec)
            spec = stage.output(spec)
        _same(name, "the result", seen.setdefault("", (image.name, spec.voxel_um)), image, spec)


def _same(name: str, what: str, first: tuple[str, tuple[float, ...]], image: Image, spec: Spec) -> None:
    if not all(map(isclose, first[1], spec.voxel_um)):
        raise InvalidConfiguration(
            f"object {name}: {what} gets voxels of {um(first[1])} um from {first[0]} and of {um(spec.voxel_um)} um from {image.name}, since "
            "resample covers what each image does; give them in two commands, or make them of one size with --crop"
        )
