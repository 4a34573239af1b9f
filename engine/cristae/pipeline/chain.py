"""Chain: an object's steps as nodes, each a stage that knows those before it. What may follow what is decided here."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import numpy as np

from cristae.blocks.stage import Spec
from cristae.blocks.work import Ref
from cristae.errors import InvalidConfiguration
from cristae.filters import heights
from cristae.labels import within
from cristae.pipeline.compile import Node, refuse_float_mask
from cristae.pipeline.file import Object, Step
from cristae.pipeline.grids import refuse_grid, with_voxels_of
from cristae.pipeline.operations import build, stages

PARTED = ("split", "flood")
"""Steps whose objects touch, or nearly: only equal numbers join after them."""


def chain_of(item: Object, spec: Spec, raw: Ref) -> tuple[Node, Step | None]:
    """The last node of an object's steps, which knows those before it, and its measure step. raw : the channel it works on.

    Raises
    ------
    InvalidConfiguration : if a step is not known, is given what it cannot work on, or is not built yet.
    """
    named: dict[str, Node | None] = {"input": None}
    node: Node | None = None
    leaf: Node | None = None
    table: Step | None = None
    if sum(step.name == "flatfield" for step in item.steps) > 1:
        raise InvalidConfiguration(
            f"object {item.name} has two flatfield steps; light is divided away once: leave one out"
        )
    for step in item.steps:
        parent = named[step.source] if step.source is not None else node
        with said_where(step):
            if step.name == "measure":
                table, leaf = step, _labelled(item, parent)
                continue
            if step.name != "project":  # which is how the image is read
                node = _node(item, step, parent, spec, raw)
        if step.label:
            named[step.label] = node
    leaf = leaf or node
    if leaf is None:
        raise InvalidConfiguration(f"object {item.name} has no steps")
    if item.within is not None and not any(link.name == "within" for link in leaf.chain):
        raise InvalidConfiguration(
            f"object {item.name} is within {item.within}, but has no label step to know it by; add label"
        )
    return leaf, table


@contextmanager
def said_where(step: Step | None) -> Iterator[None]:
    """What is wrong with a step is said with its place in the file."""
    try:
        yield
    except InvalidConfiguration as error:
        if step is None or step.place is None or str(error).startswith(step.place):
            raise
        raise InvalidConfiguration(f"{step.place}: {error}") from error


def _labelled(item: Object, parent: Node | None) -> Node:
    if parent is not None and parent.stage.name == "label":
        return parent
    after = parent is not None and any(link.name == "label" for link in parent.chain)
    way = f"put {parent.stage.name} before label" if parent is not None and after else "put it after label"
    raise InvalidConfiguration(f"object {item.name}: measure works on labels; {way}")


def _node(item: Object, step: Step, parent: Node | None, spec: Spec, raw: Ref) -> Node:
    """A step's node, on those that the engine puts before it."""
    if step.name not in stages():
        raise InvalidConfiguration(f"step {step.name} is part of the format but not built yet; leave it out")
    params, beside = dict(step.params), None
    if step.name == "label":
        parent, params = _to_label(item, step, parent, spec)
    elif parent is not None and _parted(parent):
        by = parent.stage.name
        raise InvalidConfiguration(
            f"object {item.name}: {step.name} after {by} would join what it parted; put {step.name} before {by}, and label after it"
        )
    elif step.name == "split":
        parent = _to_split(step, parent, spec, raw)
    elif step.name == "flatfield" and params.get("image"):
        beside = replace(raw, array=flat_name(item))
        refuse_grid(step.name, parent.spec if parent else spec, spec)
    elif step.name == "segment":
        return with_voxels_of(step, parent, spec)
    before = parent.spec if parent else spec
    stage = build(step.name, params, before)
    _warn_of_small(step, before)
    return Node(step.label or step.name, stage, parent, stage.output(before), step.keep, beside)


def _to_label(item: Object, step: Step, parent: Node | None, spec: Spec) -> tuple[Node | None, dict[str, Any]]:
    """What labels are made of, and how: parts that `split` made stay apart, and so do those in different holders."""
    before, params = parent.spec if parent else spec, dict(step.params)
    refuse_keep(step, "its labels stay anyway")
    refuse_float_mask("label", before)
    if parent is not None and _parted(parent):
        if params.get("multilabel") is False:
            raise InvalidConfiguration(
                f"object {item.name}: label after {parent.stage.name} would join what it parted; leave multilabel out"
            )
        params["multilabel"] = True
    if item.within is None:
        return parent, params
    if "multilabel" in params:
        raise InvalidConfiguration(
            f"object {item.name} is within {item.within}, and its labels are split or multilabel; leave one of them out"
        )
    refuse_grid(f"object {item.name} is within {item.within}, and label", before, spec)
    held = within(item.within, voxel_um=before.voxel_um)
    return Node("within", held, parent, held.output(before), beside=Ref(item.within)), {**params, "multilabel": True}


def _parted(node: Node) -> bool:
    """Whether a step's output is objects that may touch."""
    return node.stage.name in PARTED or node.stage.params.get("returns") == "labels"


def _to_split(step: Step, parent: Node | None, spec: Spec, raw: Ref) -> Node | None:
    """The landscape that `split` climbs, where it is not the mask or the probability itself."""
    before = parent.spec if parent else spec
    if step.params.get("by") == "probability":
        if np.dtype(before.dtype).kind != "f":
            made = "the image" if parent is None else parent.name
            raise InvalidConfiguration(
                f"step split by probability needs a probability, such as segment gives, but gets {before.dtype} of {made}; put it after "
                "segment, without threshold between, and say above: 0.5"
            )
        return parent
    refuse_float_mask("split", before)
    if step.params.get("by") != "intensity":
        return parent
    refuse_grid("split by intensity", before, spec)
    seen = heights(voxel_um=before.voxel_um, sigma_um=step.params.get("sigma_um", 0.0))
    return Node("heights", seen, parent, seen.output(before), beside=raw)


def flat_name(item: Object) -> str:
    """The name by which an object's flat field lies beside the image."""
    return f"{item.name}/flatfield"


def refuse_keep(step: Step, why: str) -> None:
    """A step whose output cannot be kept says so."""
    if step.keep:
        raise InvalidConfiguration(f"step {step.name}: keep stores nothing here, since {why}; take it away")


def _warn_of_small(step: Step, spec: Spec) -> None:
    """A radius below one voxel is rarely meant: it may be a diameter, or in another unit."""
    name = "min_separation_um" if step.name == "split" else "radius_um"
    given = step.params.get(name)
    if isinstance(given, Mapping):
        given = [given.get("min"), given.get("max")]
    numbers = given if isinstance(given, list | tuple) else [given]
    finest = min(spec.voxel_um)
    small = [n for n in numbers if isinstance(n, int | float) and not isinstance(n, bool) and 0 < n < finest]
    if small:
        warnings.warn(
            f"step {step.name}: {name} {small[0]:g} is less than one voxel of {finest:g} um, and does little or nothing; "
            "lengths are micrometres",
            stacklevel=2,
        )
