"""Jobs: from the words of a command to a Job. The one place that puts volumes, steps and outputs together."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from cristae.blocks.stage import Spec
from cristae.blocks.work import Asked, Frame, Image, Pass, Ref, Target
from cristae.errors import InvalidConfiguration, InvalidInput
from cristae.pipeline.compile import Choice, Node, Passes, refuse_float_mask, staged
from cristae.pipeline.file import Object, PipelineFile, Step, load
from cristae.pipeline.job import ArrayOutput, FileOutput, Job
from cristae.pipeline.operations import build, known, stages
from cristae.pipeline.overview import Overview, overview_name
from cristae.pipeline.projection import projections
from cristae.pipeline.tables import Description, Group, Table
from cristae.store.tables import check_suffix
from cristae.store.volume import Volume, open_volume

STORE_SUFFIX = ".zarr"
PICTURES = 100
"""Images of a collection that get an overview; the pictures of ten thousand fields would take longer than their labels."""


@dataclass(frozen=True)
class Inputs:
    """The input group of options, which every command that computes takes."""

    axes: str | None = None
    voxel_um: tuple[float, ...] | None = None
    frame_interval_s: float | None = None
    channel: str | int | None = None
    time: tuple[int, int] | None = None

    def open(self, path: str) -> Volume:
        return open_volume(
            absolute(path), axes=self.axes, voxel_um=self.voxel_um, frame_interval_s=self.frame_interval_s
        )

    def frames(self, number: int, volume: Volume) -> list[Frame]:
        """The time points to do, each on its own."""
        start, stop = self.time or (0, volume.frames)
        if not 0 <= start < stop <= volume.frames:
            raise InvalidInput(f"--time {start}:{stop} is outside the {volume.frames} time points of {volume.path}")
        return [Frame(number, t) for t in range(start, stop)]

    @property
    def facts(self) -> dict[str, Any]:
        return {"channel": self.channel, "time": self.time}


def absolute(path: str) -> str:
    """A path as workers find it, whose working folder may be another."""
    return os.path.abspath(path)


def one_channel(volume: Volume, wanted: str | int | None) -> int:
    """The channel to work on; may be left out where there is one."""
    if wanted is None and volume.channel_count > 1:
        names = ", ".join(f"{n}: {c.name}" for n, c in enumerate(volume.channels))
        raise InvalidInput(
            f"{volume.path} has {volume.channel_count} channels ({names}); name one with --channel or channel:"
        )
    return volume.channel_index(wanted if wanted is not None else 0)


def _spec(volume: Volume) -> Spec:
    return Spec(volume.spatial_shape, volume.dtype, volume.voxel_um)


def _label_place(dst: Path) -> tuple[Path, Path, str, Path | None]:
    """Root, final group, name and listing store of a label: `x.ome.zarr/labels/NAME`, or a label of its own."""
    if dst.parent.name == "labels" and dst.parent.parent.suffix == STORE_SUFFIX:
        return dst.parent.parent, dst, dst.name, dst.parent.parent
    return dst, dst, stem(dst), None


def stem(path: Path) -> str:
    """A store's or file's name without suffix."""
    name = path.name
    for suffix in (".ome.zarr", ".zarr", ".ome.tiff", ".ome.tif"):
        if name.lower().endswith(suffix):
            return name[: -len(suffix)]
    return path.stem


def label_job(mask: str, dst: str, inputs: Inputs, params: Mapping[str, Any]) -> Job:
    """`cristae label MASK DST`: components of a mask, as a label."""
    volume = inputs.open(mask)
    spec = _spec(volume)
    refuse_float_mask("label", spec)
    root, final, name, store = _label_place(Path(absolute(dst)))
    channel = one_channel(volume, inputs.channel)
    node = Node("label", build("label", params, spec), None, spec)
    node = replace(node, spec=node.stage.output(spec))
    passes = Passes(Ref("input", channel), spec, name)
    passes.end(node, Target(name, "label"), ())
    return Job(
        name,
        root,
        (Image(volume.name, {"input": volume}),),
        tuple(inputs.frames(0, volume)),
        tuple(passes.passes),
        tuple(passes.targets),
        (ArrayOutput(name, 0, "label", final, store, "../../" if store else os.path.relpath(mask, final)),),
        extra={"command": "label", **inputs.facts},
    )


def convert_job(src: str, dst: str, inputs: Inputs, chunk: Sequence[int] | None) -> Job:
    """`cristae convert SRC DST`: the same voxels as OME-Zarr 0.5."""
    volume = inputs.open(src)
    one = None if inputs.channel is None else volume.channel_index(inputs.channel)
    chosen = range(volume.channel_count) if one is None else (one,)
    frames = [replace(f, c=c) for f in inputs.frames(0, volume) for c in chosen]
    step = Pass("convert: copy", Ref("input", None), sink="image")
    called = tuple(volume.channels[c] for c in chosen)
    output = ArrayOutput("image", 0, volume.kind, Path(absolute(dst)), None, None, called, every_channel=one is None)
    return Job(
        "convert",
        Path(absolute(dst)),
        (Image(volume.name, {"input": volume}),),
        tuple(frames),
        (step,),
        (Target("image", volume.kind),),
        (output,),
        extra={"command": "convert", "chunk": chunk, **inputs.facts},
    )


def measure_job(labels: str, out: str, inputs: Inputs, image: str | None, columns: Sequence[str] | None) -> Job:
    """`cristae measure LABELS --out TABLE`: the columns of every object of a label volume."""
    path = Path(absolute(out))
    check_suffix(path)
    volume = inputs.open(labels)
    volumes = {"input": volume}
    spec = _spec(volume)
    refuse_float_mask("measure", spec)
    channels: list[int] = []
    if image is not None:
        raw = _open_beside(image, inputs)
        _same_grid(volume, raw)
        volumes["image"] = raw
        channels = [raw.channel_index(inputs.channel)] if inputs.channel is not None else list(range(raw.channel_count))
    measured = table_measures(stem(path), spec, "image", channels, volumes.get("image"), columns)
    asked, groups = measured
    table = Table(stem(path), "input", groups)
    step = Pass("measure: " + ", ".join(a.measure.name for a in asked), Ref("input"), measures=asked)
    return Job(
        path.name,
        path.parent,
        (Image(volume.name, volumes),),
        tuple(inputs.frames(0, volume)),
        (step,),
        (),
        (),
        (FileOutput(path, table),),
        extra={"command": "measure", "columns": columns, **inputs.facts},
    )


def _open_beside(image: str, inputs: Inputs) -> Volume:
    """The image of labels; what the labels lack, such as axes, it may lack too."""
    try:
        return open_volume(absolute(image), voxel_um=inputs.voxel_um)
    except InvalidInput:
        return inputs.open(image)


def _same_grid(labels: Volume, image: Volume) -> None:
    if labels.spatial_shape != image.spatial_shape:
        raise InvalidInput(
            f"labels {labels.path} are {_times(labels.spatial_shape)} voxels but the image {image.path} is "
            f"{_times(image.spatial_shape)}; give the image these labels were made from"
        )


def _times(shape: Sequence[int]) -> str:
    return " x ".join(str(n) for n in shape)


def table_measures(
    name: str, spec: Spec, raw: str, channels: Sequence[int], image: Volume | None, columns: Sequence[str] | None
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


def load_pipeline(path: str, changes: Sequence[str]) -> PipelineFile:
    """A pipeline file with the values of `--set` in place."""
    return load(Path(path), known(), changes)


def run_job(pipeline: PipelineFile, paths: Sequence[str], out: str | None, inputs: Inputs) -> Job:
    """`cristae run PIPELINE INPUT...`: every object's steps over every image."""
    if not paths:
        raise InvalidConfiguration(
            f"{pipeline.path} names no input; give one on the command line, or write input: FILE in it"
        )
    volumes = [inputs.open(p) for p in paths]
    _unlike(volumes)
    images = tuple(Image(name, {"input": v}) for name, v in zip(_names(volumes), volumes, strict=True))
    frames = tuple(f for n, v in enumerate(volumes) for f in inputs.frames(n, v))
    in_store = out is None
    if in_store and (
        len(volumes) > 1 or volumes[0].reader != "zarr" or not Path(volumes[0].path, "zarr.json").exists()
    ):
        raise InvalidConfiguration(
            f"{volumes[0].path} cannot hold results itself; give --out DIR for the labels and the table"
        )
    root = Path(volumes[0].path) if out is None else Path(absolute(out))
    passes: list[Pass] = []
    targets: list[Target] = []
    arrays: list[ArrayOutput] = []
    files: list[FileOutput] = []
    choices: list[Choice] = []
    columns: dict[str, Any] = {}
    for item in pipeline.objects:
        built = object_passes(item, volumes[0], inputs)
        passes += built.passes
        targets += built.targets
        choices += built.choices
        for n, image in enumerate(images):
            arrays += [
                _array_output(root, in_store, image.name, n, target, len(pipeline.objects), paths[n], inputs)
                for target in built.targets
                if target.kind != "scratch"
            ]
        folder = root / "tables" / item.name
        if built.table is not None:
            columns[item.name] = built.table.groups[0].columns
            files += [
                FileOutput(folder / "table.parquet", built.table),
                FileOutput(folder / "table.json", Description(built.table)),
            ]
        if built.overview is not None:
            where = folder if in_store or len(pipeline.objects) > 1 else root
            files += [
                FileOutput(where / overview_name(i.name, images), Overview(built.overview, n, item.name))
                for n, i in enumerate(images[:PICTURES])
            ]
    name = "-".join(o.name for o in pipeline.objects)
    return Job(
        name,
        root,
        images,
        frames,
        tuple(passes),
        tuple(targets),
        tuple(arrays),
        tuple(files),
        tuple(choices),
        {"command": "run", **inputs.facts, "channels": [o.channel for o in pipeline.objects], "columns": columns},
    )


def _array_output(
    root: Path, in_store: bool, image: str, number: int, target: Target, objects: int, source: str, inputs: Inputs
) -> ArrayOutput:
    if in_store and target.kind == "label" and inputs.time is not None:
        raise InvalidConfiguration(
            "--time leaves holes in labels that lie beside their image; give --out DIR to hold them"
        )
    if in_store and target.kind == "label":
        return ArrayOutput(target.name, number, "label", root / "labels" / target.name, root, "../../")
    if in_store:
        raise InvalidConfiguration(f"{target.name} ends in an image, not in labels; give --out DIR to hold it")
    name = f"{image}.ome.zarr" if objects == 1 else f"{image}-{target.name}.ome.zarr"
    final = root / f"{target.kind}s" / name
    return ArrayOutput(target.name, number, target.kind, final, None, os.path.relpath(source, final))


def _names(volumes: Sequence[Volume]) -> list[str]:
    names = [v.name for v in volumes]
    for n, name in enumerate(names):
        if name in names[:n]:
            raise InvalidInput(f"{volumes[n].path} and another input are both called {name}; rename one")
    return names


def _unlike(volumes: Sequence[Volume]) -> None:
    # One set of passes serves every image, so what the passes depend on must be the same.
    first = volumes[0]
    for other in volumes[1:]:
        for what in ("dtype", "voxel_um"):
            if getattr(other, what) != getattr(first, what):
                raise InvalidInput(
                    f"{other.path} has {what.replace('_', ' ')} {getattr(other, what)} but {first.path} has "
                    f"{getattr(first, what)}; run them apart"
                )


@dataclass(frozen=True)
class ObjectPasses:
    """What one object's steps compile to."""

    passes: tuple[Pass, ...]
    targets: tuple[Target, ...]
    choices: tuple[Choice, ...]
    table: Table | None
    overview: str | None  # key of the answer that holds its projections


def object_passes(item: Object, volume: Volume, inputs: Inputs) -> ObjectPasses:
    """Passes of one object's steps over an image like `volume`.

    Raises
    ------
    InvalidConfiguration : if a step is not known, is given what it cannot work on, or is not built yet.
    """
    if item.within is not None:
        raise InvalidConfiguration(f"object {item.name}: within is part of the format but not built yet; leave it out")
    channel = one_channel(volume, item.channel if item.channel is not None else inputs.channel)
    spec = _spec(volume)
    named: dict[str, Node | None] = {"input": None}
    node: Node | None = None
    leaf: Node | None = None
    table: Step | None = None
    for step in item.steps:
        parent = named[step.source] if step.source is not None else node
        if step.name == "measure":
            if parent is None or parent.stage.name != "label":
                raise InvalidConfiguration(f"object {item.name}: measure works on labels; put it after label")
            table, leaf = step, parent
            continue
        if step.name not in stages():
            raise InvalidConfiguration(f"step {step.name} is part of the format but not built yet; leave it out")
        if step.keep:
            raise InvalidConfiguration(f"step {step.name}: keep is part of the format but not built yet; leave it out")
        before = parent.spec if parent else spec
        if step.name == "label":
            refuse_float_mask("label", before)
        stage = build(step.name, step.params, before)
        node = Node(step.label or step.name, stage, parent, stage.output(before))
        if step.label:
            named[step.label] = node
    leaf = leaf or node
    if leaf is None:
        raise InvalidConfiguration(f"object {item.name} has no steps")
    kept, choices = staged(leaf, spec)
    passes = Passes(Ref("input", channel), spec, item.name, kept)
    asked, groups = _table_of(item, table, leaf, volume, channel)
    labelled = leaf.stage.name == "label"
    key = f"{item.name}/overview" if labelled else None
    if key is not None:
        asked += (Asked(key, projections(voxel_um=spec.voxel_um), {}, (Ref("input", channel),)),)
    passes.end(leaf, Target(item.name, "label" if labelled else "image"), asked)
    made = Table(item.name, item.name, groups) if table is not None else None
    return ObjectPasses(tuple(passes.passes), tuple(passes.targets), tuple(choices), made, key)


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
