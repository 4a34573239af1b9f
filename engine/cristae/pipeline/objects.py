"""Objects: what the steps of one object compile to, and the measures of a table."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from math import inf
from typing import Any

import numpy as np

from cristae.blocks.measure import Answer, Measure, Partial
from cristae.blocks.stage import At, Cost, Spec, Stage
from cristae.blocks.work import Asked, Pass, Ref, Target
from cristae.errors import InvalidConfiguration, InvalidInput
from cristae.filters import heights
from cristae.labels import within
from cristae.morphology.intensity import intensity
from cristae.pipeline.compile import Choice, Node, Passes, cuts, refuse_float_mask, staged
from cristae.pipeline.file import Object, PipelineFile, Step
from cristae.pipeline.operations import build, stages
from cristae.pipeline.overview import overview_key
from cristae.pipeline.projection import projections
from cristae.pipeline.results import Cut
from cristae.pipeline.tables import Group, Holder, Table
from cristae.store.projected import projected
from cristae.store.volume import Volume


def one_channel(volume: Volume, wanted: str | int | None) -> int:
    """The channel to work on; may be left out where there is one."""
    if wanted is None and volume.channel_count > 1:
        names = ", ".join(f"{n}: {c.name}" for n, c in enumerate(volume.channels))
        raise InvalidInput(
            f"{volume.path} has {volume.channel_count} channels ({names}); name one with --channel or channel:"
        )
    return volume.channel_index(wanted if wanted is not None else 0)


def spec_of(volume: Volume) -> Spec:
    """What a volume is to the first step."""
    return Spec(volume.spatial_shape, volume.dtype, volume.voxel_um)


@dataclass(frozen=True)
class ObjectPasses:
    """What one object's steps compile to."""

    passes: tuple[Pass, ...]
    targets: tuple[Target, ...]
    choices: tuple[Choice, ...]
    table: Table | None
    overview: str | None  # key of the answer that holds its projections
    cuts: tuple[Cut, ...]  # thresholds, in the order of the steps
    steps: tuple[Stage, ...]
    kept: Mapping[str, tuple[Stage, ...]]  # steps that give each array that is kept


def object_passes(item: Object, volume: Volume, wanted: str | int | None) -> ObjectPasses:
    """Passes of one object's steps over an image like `volume`. wanted : the channel, unless the object names its own.

    Raises
    ------
    InvalidConfiguration : if a step is not known, is given what it cannot work on, or is not built yet.
    """
    channel = one_channel(volume, item.channel if item.channel is not None else wanted)
    spec = spec_of(volume)
    leaf, table = chain_of(item, spec, Ref("input", channel))
    kept, choices = staged(leaf, spec)
    passes = Passes(Ref("input", channel), spec, item.name, kept, cuts(leaf))
    asked, groups = _table_of(item, table, leaf, volume, channel)
    holder = None
    if item.within is not None and table is not None:
        holder = Holder(f"parent_{item.within}", f"{item.name}/table/parent")
        measure = intensity(voxel_um=spec.voxel_um, dtype="uint32", channel=item.within)
        asked += (Asked(holder.key, measure, {}, (Ref(item.within),)),)
    labelled = leaf.stage.name == "label"
    key = overview_key(item.name) if labelled else None
    if key is not None:
        asked += (Asked(key, projections(voxel_um=spec.voxel_um), {}, (Ref("input", channel),)),)
    passes.answer_for(leaf)
    thresholds = list(_cuts(item.name, leaf, passes))
    asked += tuple(noted for _, noted in thresholds if noted is not None)
    passes.end(leaf, Target(item.name, "label" if labelled else "image"), asked)
    made = Table(item.name, item.name, groups, holder, _background(table)) if table is not None else None
    return ObjectPasses(
        tuple(passes.passes),
        tuple(passes.targets),
        tuple(choices),
        made,
        key,
        tuple(cut for cut, _ in thresholds),
        tuple(node.stage for node in leaf.chain),
        {passes.arrays[id(n)]: tuple(link.stage for link in n.chain) for n in leaf.chain if n.keep},
    )


def seen_by(pipeline: PipelineFile, volume: Volume) -> Volume:
    """What the objects of a pipeline work on: the volume, or where they begin with it, its projection.

    Raises
    ------
    InvalidConfiguration : if only some of them do, or it is of another kind.
    InvalidInput : if the volume is no stack.
    """
    ways = {item.steps[0].params.get("method", "max") if _projects(item) else None for item in pipeline.objects}
    if ways == {None}:
        return volume
    if ways != {"max"}:
        said = (
            "only some objects begin with project"
            if None in ways
            else f"project: {ways.pop()} is not known; the one method is max"
        )
        raise InvalidConfiguration(f"{pipeline.path}: {said}" + ("; give it to all or to none" if None in ways else ""))
    return projected(volume)


def _projects(item: Object) -> bool:
    return bool(item.steps) and item.steps[0].name == "project"


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
    for n, step in enumerate(item.steps):
        if step.name == "project":
            if n:
                raise InvalidConfiguration(
                    f"object {item.name}: project is how the image is read; make it the first step"
                )
            if step.label:
                named[step.label] = None
            _refuse_keep(step)
            continue
        parent = named[step.source] if step.source is not None else node
        if step.name == "measure":
            if parent is None or parent.stage.name != "label":
                after = parent is not None and any(link.name == "label" for link in parent.chain)
                way = f"put {parent.stage.name} before label" if parent is not None and after else "put it after label"
                raise InvalidConfiguration(f"object {item.name}: measure works on labels; {way}")
            table, leaf = step, parent
            continue
        if step.name not in stages():
            raise InvalidConfiguration(f"step {step.name} is part of the format but not built yet; leave it out")
        before = parent.spec if parent else spec
        parted = parent is not None and parent.stage.name == "split"
        if parted and (step.name != "label" or step.params.get("multilabel") is False):
            raise InvalidConfiguration(
                f"object {item.name}: {step.name} after split would join what it parted; "
                + (
                    "leave multilabel out"
                    if step.name == "label"
                    else f"put {step.name} before split, and label after it"
                )
            )
        if step.name == "label":
            _refuse_keep(step)
            refuse_float_mask("label", before)
        params = dict(step.params)
        if parted:
            params = {**params, "multilabel": True}
        if step.name == "label" and item.within is not None:
            if "multilabel" in params:
                raise InvalidConfiguration(
                    f"object {item.name} is within {item.within}, and its labels are split or multilabel; leave one of them out"
                )
            held = within(item.within, voxel_um=before.voxel_um)
            parent = Node("within", held, parent, held.output(before), beside=Ref(item.within))
            before, params = parent.spec, {**params, "multilabel": True}
        if step.name == "split":
            refuse_float_mask("split", before)
        if step.name == "split" and params.get("by") == "intensity":
            seen = heights(voxel_um=before.voxel_um, sigma_um=params.get("sigma_um", 0.0))
            parent = Node("heights", seen, parent, seen.output(before), beside=raw)
            before = parent.spec
        stage = build(step.name, params, before)
        _warn_of_small(step, before)
        node = Node(step.label or step.name, stage, parent, stage.output(before), step.keep and step.name != "label")
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


def _refuse_keep(step: Step) -> None:
    if step.keep:
        why = "its labels stay anyway" if step.name == "label" else "it makes no array"
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


def _cuts(name: str, leaf: Node, passes: Passes) -> Iterator[tuple[Cut, Asked | None]]:
    """The thresholds of a chain; one that the run finds is noted by its last pass, which knows it wherever it was found."""
    for node in leaf.chain:
        found = node.stage.asks.get("threshold")
        if node.stage.name != "threshold" or (found is None and "value" not in node.stage.params):
            continue
        if found is None:
            yield Cut(node.name, node.stage.params["value"]), None
        else:
            key = f"{name}/noted/{node.name}"
            yield (
                Cut(node.name, None, key, found.scope),
                Asked(key, _note(found), {"found": passes.ask(node.parent, found)}),
            )


def _note(found: Measure) -> Measure:
    """A measure that says again what another found, so that the last pass of a run knows it."""
    return Measure(
        "noted", {}, _again, _once, None, found.halo, found.scope, Cost(0.0, 0.0), {"found": found}, reads_array=False
    )


def _again(*, at: At, answers: Mapping[str, Answer]) -> Partial:
    return {"value": np.array([answers["found"].number("value")], np.float64)}


def _once(partials: Sequence[Partial]) -> Partial:
    return {"value": np.unique(np.concatenate([np.empty(0), *(p["value"] for p in partials)]))}


def _background(step: Step) -> float:
    given: Any = step.params.get("background", 0)
    if isinstance(given, bool) or not isinstance(given, int | float) or not 0 <= given < inf:
        raise InvalidConfiguration(
            f"measure: background is {given!r}, but must be a number, 0 or more, in units of the image"
        )
    return given


def _table_of(
    item: Object, step: Step | None, leaf: Node, volume: Volume, channel: int
) -> tuple[tuple[Asked, ...], tuple[Group, ...]]:
    if step is None:
        return (), ()
    chosen: Any = step.params.get("channels")
    if chosen == "all":
        channels = list(range(volume.channel_count))
    elif chosen is None:
        channels = [channel]
    else:
        channels = [volume.channel_index(c) for c in (chosen if isinstance(chosen, list | tuple) else [chosen])]
    columns = step.params.get("columns")
    return table_measures(item.name, leaf.spec, "input", channels, volume, columns)


def table_measures(
    name: str,
    spec: Spec,
    raw: str,
    channels: Sequence[int],
    image: Volume | None,
    columns: Sequence[str] | None,
) -> tuple[tuple[Asked, ...], tuple[Group, ...]]:
    """Measures of a table and the columns each gives. Intensity is of the raw channels, never of a filter."""
    from cristae.morphology.columns import expand, group_of
    from cristae.morphology.parts import index_part, parts_of

    called = [image.channels[c].name for c in channels] if image is not None else []
    wanted = list(columns) if columns is not None else ["shape", *(["intensity"] if channels else [])]
    shown = expand(wanted, ndim=spec.ndim, channels=called)
    if not channels and any(group_of(column) == "intensity" for column in shown):
        raise InvalidConfiguration("intensity columns need the image; give --image, or leave them out of --columns")
    dtype = image.dtype if image is not None else "uint16"
    parts = parts_of(shown, voxel_um=spec.voxel_um, channels=called, dtype=dtype)
    if not parts or "shape" not in parts[0].groups:
        parts = (index_part(spec.voxel_um), *parts)
    asked: list[Asked] = []
    groups: list[Group] = []
    for part in parts:
        beside = () if part.channel is None else (Ref(raw, channels[part.channel]),)
        key = f"{name}/table/{part.measure.name}" + (f"-{beside[0].channel}" if beside else "")
        asked.append(Asked(key, part.measure, {}, beside))
        groups += [Group(key, g, shown, part.suffix if g == "intensity" else None) for g in part.groups]
    return tuple(asked), tuple(groups)
