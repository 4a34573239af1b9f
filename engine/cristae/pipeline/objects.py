"""Objects: what the steps of one object compile to, and the measures of a table."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from math import inf
from typing import Any

import numpy as np

from cristae.blocks.measure import Answer, Measure, Partial
from cristae.blocks.stage import At, Cost, Spec, Stage
from cristae.blocks.work import Asked, Pass, Ref, Target
from cristae.errors import InvalidConfiguration, InvalidInput
from cristae.grid import Shape
from cristae.morphology.intensity import SUBTRACTED, intensity
from cristae.pipeline.chain import chain_of, said_where
from cristae.pipeline.compile import Choice, Node, Passes, cuts, staged
from cristae.pipeline.file import Object, Step
from cristae.pipeline.grids import on_grid, um, way_back
from cristae.pipeline.overview import overview_key
from cristae.pipeline.projection import projections
from cristae.pipeline.results import Cut
from cristae.pipeline.stitching import noted_seams
from cristae.pipeline.tables import Group, Holder, Table, plain
from cristae.store.volume import Volume


def one_channel(volume: Volume, wanted: str | int | None) -> int:
    """The channel to work on; may be left out where there is one.

    Raises
    ------
    InvalidInput : naming the channels, or if it is a table of runs, whose objects are what steps would have to find.
    """
    if volume.reader == "runs":
        raise InvalidInput(
            f"{volume.path} is a table of runs, whose objects may overlap: cristae measure takes it as it is, every other command wants "
            f"labels, such as labels/{volume.label} of the same store, or what cristae convert makes of a layer"
        )
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
    seams: str | None  # key of the answer that counts the objects in several blocks
    steps: tuple[Stage, ...]
    kept: Mapping[str, tuple[Stage, ...]]  # steps that give each array that is kept
    apart: Spec | None  # of its result, where that lies on other voxels than the image's
    stitched: tuple[Asked, ...] = ()  # what joining the objects of tiles came to


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
    with said_where(table):
        asked, groups = _table_of(item, table, leaf, volume, channel)
        background = _background(table, groups)
    holder = None
    if item.within is not None and table is not None:
        holder = Holder(f"parent_{item.within}", f"{item.name}/table/parent")
        measure = intensity(voxel_um=spec.voxel_um, dtype="uint32", channel=item.within)
        asked += (Asked(holder.key, measure, {}, (Ref(item.within),)),)
    labelled = leaf.stage.name == "label"
    key = overview_key(item.name) if labelled and on_grid(leaf.spec, spec) else None
    if key is not None:
        asked += (Asked(key, projections(voxel_um=spec.voxel_um), {}, (Ref("input", channel),)),)
    passes.answer_for(leaf)
    thresholds = list(_cuts(item.name, leaf, passes))
    asked += tuple(noted for _, noted in thresholds if noted is not None)
    seams = f"{item.name}/noted/seams" if labelled else None
    if seams is not None:
        ids = leaf.stage.asks["ids"]
        asked += (Asked(seams, _note(ids, "seams", (3,)), {"found": passes.ask(leaf.parent, ids)}),)
    stitched = noted_seams(item.name, leaf, passes)
    asked += stitched
    passes.end(leaf, Target(item.name, "label" if labelled else "image"), asked)
    made = Table(item.name, item.name, groups, holder, background) if table is not None else None
    return ObjectPasses(
        tuple(passes.passes),
        tuple(passes.targets),
        tuple(choices),
        made,
        key,
        tuple(cut for cut, _ in thresholds),
        seams,
        tuple(node.stage for node in leaf.chain),
        {passes.arrays[id(n)]: tuple(link.stage for link in n.chain) for n in leaf.chain if n.keep},
        None if on_grid(leaf.spec, spec) else leaf.spec,
        stitched,
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
                Asked(key, _note(found, "value"), {"found": passes.ask(node.parent, found)}),
            )


def _note(found: Measure, name: str, shape: Shape = ()) -> Measure:
    """A measure that says again what another found, so that the last pass of a run knows it. name, shape : of that array"""
    return Measure(
        "noted" if name == "value" else name,
        {},
        partial(_again, name=name),
        partial(_once, name=name, shape=shape),
        None,
        found.halo,
        found.scope,
        Cost(0.0, 0.0),
        {"found": found},
        reads_array=False,
    )


def _again(*, at: At, answers: Mapping[str, Answer], name: str) -> Partial:
    return {name: np.asarray(answers["found"].arrays[name], np.float64)[np.newaxis]}


def _once(partials: Sequence[Partial], name: str, shape: Shape) -> Partial:
    return {name: np.unique(np.concatenate([np.empty((0, *shape)), *(p[name] for p in partials)]), axis=0)}


def _background(step: Step | None, groups: Sequence[Group]) -> float:
    given: Any = step.params.get("background", 0) if step is not None else 0
    if isinstance(given, bool) or not isinstance(given, int | float) or not 0 <= given < inf:
        raise InvalidConfiguration(
            f"measure: background is {given!r}, but must be a number, 0 or more, in units of the image"
        )
    if given and not any(plain(column) in SUBTRACTED for column in groups[0].columns):
        raise InvalidConfiguration(
            f"measure: background {given} is taken from intensities, and no column has any; add intensity, or leave background out"
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
    columns = [columns] if isinstance(columns, str) else columns
    asked, groups = table_measures(item.name, leaf.spec, "input", channels, volume, columns)
    own = spec_of(volume)
    if any(one.beside for one in asked) and not on_grid(leaf.spec, own):
        raise InvalidConfiguration(
            f"object {item.name}: intensity is measured on the image, whose voxels are {um(own.voxel_um)} um, and the labels have "
            f"{um(leaf.spec.voxel_um)}; put {way_back(own)} before label, or measure without intensity: measure: [shape]"
        )
    return asked, groups


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
