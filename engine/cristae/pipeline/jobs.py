"""Jobs: from the words of a command to a Job. The one place that puts volumes, steps and outputs together."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from cristae.blocks.stage import Spec
from cristae.blocks.work import Image, Pass, Ref, Target
from cristae.errors import InvalidConfiguration, InvalidInput
from cristae.pipeline.batch import Batch, gathered
from cristae.pipeline.compile import Choice, Node, Passes, refuse_float_mask
from cristae.pipeline.file import Object, PipelineFile, holders_first
from cristae.pipeline.grids import refuse_apart, refuse_unlike
from cristae.pipeline.growing import frames_after, images_before
from cristae.pipeline.inputs import Inputs, absolute
from cristae.pipeline.job import ArrayOutput, FileOutput, Job
from cristae.pipeline.keeping import digests_of
from cristae.pipeline.methods import paragraph
from cristae.pipeline.objects import object_passes, one_channel, spec_of, table_measures
from cristae.pipeline.operations import build
from cristae.pipeline.reading import beside, refuse_fields, seen_by
from cristae.pipeline.results import result_files
from cristae.pipeline.stitching import stitched_files
from cristae.pipeline.tables import Table
from cristae.store.tables import check_suffix
from cristae.store.volume import Volume, open_volume

STORE_SUFFIX = ".zarr"
FILE_SUFFIXES = (".tif", ".tiff", ".npy", ".npz", ".png", ".csv", ".parquet")


def _label_place(dst: Path) -> tuple[Path, Path, str, Path | None]:
    """Root, final group, name and listing store of a label: `x.ome.zarr/labels/NAME`, or a label of its own."""
    if dst.parent.name == "labels" and dst.parent.parent.suffix == STORE_SUFFIX:
        return dst.parent.parent, dst, dst.name, dst.parent.parent
    return dst, dst, stem(dst), None


def _folder(dst: str) -> Path:
    """Where a store goes."""
    path = Path(absolute(dst))
    if path.suffix.lower() in FILE_SUFFIXES:
        raise InvalidConfiguration(f"{dst} would be a folder in the name of a file; call it {stem(path)}.ome.zarr")
    return path


def _apart(out: Path, volume: Volume) -> None:
    """Refuse to write into an input."""
    source = Path(volume.path).resolve()
    if source == out.resolve() or source in out.resolve().parents:
        raise InvalidConfiguration(
            f"{out} lies in the input {volume.path}, which is not written to; give another place"
        )


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
    spec = spec_of(volume)
    refuse_float_mask("label", spec)
    root, final, name, store = _label_place(_folder(dst))
    if store is None:
        _apart(final, volume)
    elif (store / "zarr.json").exists() and (image := open_volume(str(store))).spatial_shape != volume.spatial_shape:
        raise InvalidInput(
            f"{volume.path} is {_times(volume.spatial_shape)} voxels but the image {store} is "
            f"{_times(image.spatial_shape)}; labels lie beside the image they belong to: give another DST"
        )
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
    final = _folder(dst)
    _apart(final, volume)
    one = None if inputs.channel is None else volume.channel_index(inputs.channel)
    chosen = range(volume.channel_count) if one is None else (one,)
    frames = [replace(f, c=c) for f in inputs.frames(0, volume) for c in chosen]
    step = Pass("convert: copy", Ref("input", None), sink="image")
    called = tuple(volume.channels[c] for c in chosen)
    output = ArrayOutput("image", 0, volume.kind, final, None, None, called, every_channel=one is None)
    return Job(
        "convert",
        final,
        (Image(volume.name, {"input": volume}),),
        tuple(frames),
        (step,),
        (Target("image", volume.kind),),
        (output,),
        extra={"command": "convert", "chunk": chunk, **inputs.facts},
    )


def measure_job(labels: str, out: str, inputs: Inputs, image: str | None, columns: Sequence[str] | None) -> Job:
    """`cristae measure LABELS --out TABLE`: the columns of every object of a label volume, or of a table of runs, layer by layer."""
    path = Path(absolute(out))
    check_suffix(path)
    if image is None and inputs.channel is not None:
        raise InvalidConfiguration(
            f"--channel {inputs.channel} chooses of an image's channels, and labels are measured without one; give --image, or leave "
            "--channel out"
        )
    volume = replace(inputs, scene=None).open(labels)  # a scene is one of the image's
    volumes = {"input": volume}
    spec = spec_of(volume)
    refuse_float_mask("measure", spec)
    if volume.channel_count > volume.layers:
        raise InvalidInput(
            f"labels have one channel, but {volume.path} has {volume.channel_count}; take one of them with cristae convert --channel"
        )
    channels: list[int] = []
    if image is not None:
        raw = _open_beside(image, inputs)
        _same_grid(volume, raw)
        volumes["image"] = raw
        channels = [raw.channel_index(inputs.channel)] if inputs.channel is not None else list(range(raw.channel_count))
    measured = table_measures(stem(path), spec, "image", channels, volumes.get("image"), columns)
    asked, groups = measured
    table = Table(stem(path), "input", groups)
    step = Pass("measure: " + ", ".join(a.measure.name for a in asked), Ref("input", None), measures=asked)
    return Job(
        path.name,
        path.parent,
        (Image(volume.name, volumes),),
        tuple(replace(frame, c=c) for frame in inputs.frames(0, volume) for c in range(volume.layers)),
        (step,),
        (),
        (),
        (FileOutput(path, table),),
        extra={"command": "measure", "columns": columns, **inputs.facts},
    )


def _open_beside(image: str, inputs: Inputs) -> Volume:
    """The image of labels; what the labels lack, such as axes, it may lack too."""
    try:
        return open_volume(absolute(image), voxel_um=inputs.voxel_um, scene=inputs.scene)
    except InvalidInput:
        return inputs.open(image)


def _same_grid(labels: Volume, image: Volume) -> None:
    if labels.spatial_shape != image.spatial_shape:
        raise InvalidInput(
            f"labels {labels.path} are {_times(labels.spatial_shape)} voxels but the image {image.path} is "
            f"{_times(image.spatial_shape)}; give the image these labels were made from"
        )
    if labels.frames != image.frames:
        raise InvalidInput(
            f"labels {labels.path} have {labels.frames} time points but the image {image.path} has {image.frames}, and which belong together "
            "is not known; make the image's part with cristae convert --time A:B"
        )


def _times(shape: Sequence[int]) -> str:
    return " x ".join(str(n) for n in shape)


def run_job(pipeline: PipelineFile, paths: Sequence[str], out: str | None, inputs: Inputs) -> Job:
    """`cristae run PIPELINE INPUT...`: every object's steps over every image."""
    if not paths:
        raise InvalidConfiguration(
            f"{pipeline.path} names no input; give one on the command line, or write input: FILE in it"
        )
    wanted = _wanted(pipeline, inputs)
    batch = gathered(paths, inputs).having([c for c in wanted if c not in (None, "all")])
    name = "-".join(o.name for o in pipeline.objects)
    state = None if out is None else Path(absolute(out)) / ".cristae" / name
    if state is not None:
        batch = batch.ordered(images_before(state))
    volumes = [seen_by(pipeline, sample.volume) for sample in batch.samples]
    _unlike(volumes)
    named = [item.channel for item in pipeline.objects if item.channel is not None]
    if inputs.channel is not None and named:
        raise InvalidConfiguration(
            f"--channel {inputs.channel}: the pipeline names channel {named[0]} already; leave --channel out, or change the pipeline "
            "with --set channel=..."
        )
    _same_channels(volumes, wanted)
    images = tuple(
        Image(sample.name, {"input": seen, **beside(pipeline, sample.volume, seen)}, columns=sample.columns)
        for sample, seen in zip(batch.samples, volumes, strict=True)
    )
    frames = tuple(f for n, v in enumerate(volumes) for f in inputs.frames(n, v))
    if state is not None:
        frames = frames_after(state, frames)
    refuse_fields(pipeline, volumes, len(frames))
    in_store = out is None
    if in_store and (
        len(volumes) > 1 or volumes[0].reader != "zarr" or not Path(volumes[0].path, "zarr.json").exists()
    ):
        raise InvalidConfiguration(
            f"{volumes[0].path} cannot hold results itself; give --out DIR for the labels and the table"
        )
    root = Path(volumes[0].path) if out is None else Path(absolute(out))
    for volume in volumes if out is not None else ():
        _apart(root, volume)
    passes: list[Pass] = []
    targets: list[Target] = []
    arrays: list[ArrayOutput] = []
    files: list[FileOutput] = []
    choices: list[Choice] = []
    kept: dict[str, tuple[str, ...]] = {}
    columns: dict[str, Any] = {}
    several = len(pipeline.objects) > 1
    ends: dict[str, str] = {}
    apart: dict[str, Spec | None] = {}
    backgrounds: dict[str, float] = {}
    left_out = {name: {**batch.columns[name], "flags": f"left out: {why}"} for name, why in batch.failed.items()}
    for item in holders_first(pipeline.objects):
        try:
            built = object_passes(item, volumes[0], inputs.channel)
            apart[item.name] = built.apart
            refuse_apart(item, apart, spec_of(volumes[0]), in_store)
            refuse_unlike(item.name, built.steps, images)
        except InvalidConfiguration as error:
            if pipeline.path is None or pipeline.path in str(error):
                raise
            raise InvalidConfiguration(f"{pipeline.path}: {error}") from error
        ends[item.name] = built.steps[-1].name
        if item.within is not None and ends[item.within] != "label":
            raise InvalidConfiguration(
                f"{pipeline.path}: object {item.name} is within {item.within}, which ends in {ends[item.within]}, not in labels"
            )
        passes += built.passes
        targets += built.targets
        choices += built.choices
        told = [_told(image, inputs, item) for image in images] if built.kept else []
        kept |= {array: digests_of(steps, told) for array, steps in built.kept.items()}
        for n, image in enumerate(images):
            arrays += [
                _array_output(root, in_store, image.name, n, target, several, volumes[n].path, inputs)
                for target in built.targets
                if target.kind not in ("scratch", "kept")
            ]
        folder = root / "tables" / item.name if in_store else root / item.name if several else root
        if built.table is not None:
            columns[item.name] = built.table.groups[0].columns
            if built.table.background:
                backgrounds[item.name] = built.table.background
        seen_in = _channel_name(volumes[0], item.channel if item.channel is not None else inputs.channel)
        text = paragraph(
            item.name, seen_in, built.steps, columns.get(item.name, ()), volumes, inputs, backgrounds.get(item.name, 0)
        )
        files += result_files(
            folder, item.name, built.table, built.cuts, built.overview, built.seams, text, images, in_store, left_out
        )
        files += stitched_files(folder, item.name, built.stitched)
    _refuse_alike(arrays, images)
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
        _facts(pipeline, inputs, columns, batch) | ({"backgrounds": backgrounds} if backgrounds else {}),
        kept,
        batch.failed,
    )


def _refuse_alike(arrays: Sequence[ArrayOutput], images: Sequence[Image]) -> None:
    """Image a-c with object b, and image a with object c-b, would share a file."""
    seen: dict[Path, ArrayOutput] = {}
    for made in arrays:
        if (other := seen.setdefault(made.final, made)) is not made:
            raise InvalidConfiguration(
                f"{made.final} would hold {made.target} of {images[made.image].name} and {other.target} of {images[other.image].name}; rename "
                "an object or an image"
            )


def _told(image: Image, inputs: Inputs, item: Object) -> dict[str, Any]:
    """What a kept result of an image depends on beside its steps."""
    read = {name: volume.identity() for name, volume in image.volumes.items()}
    return {**read, **inputs.facts, "channel": str(item.channel)}


def _facts(pipeline: PipelineFile, inputs: Inputs, columns: Mapping[str, Any], batch: Batch) -> dict[str, Any]:
    """What the result of a run depends on beside its passes and inputs."""
    facts = {"command": "run", **inputs.facts, "channels": [o.channel for o in pipeline.objects], "columns": columns}
    if any(sample.columns for sample in batch.samples):
        facts["samples"] = {sample.name: dict(sample.columns) for sample in batch.samples}
    return facts


def _channel_name(volume: Volume, channel: str | int | None) -> str:
    """How a sentence names the channel."""
    if volume.channel_count == 1:
        return "the one channel"
    return f"channel {volume.channels[one_channel(volume, channel)].name}"


def _array_output(
    root: Path, in_store: bool, image: str, number: int, target: Target, several: bool, source: str, inputs: Inputs
) -> ArrayOutput:
    if in_store and target.kind == "label" and (inputs.time is not None or inputs.crop is not None):
        option = "--time" if inputs.time is not None else "--crop"
        raise InvalidConfiguration(
            f"{option} leaves holes in labels that lie beside their image; give --out DIR to hold them"
        )
    if in_store and target.kind == "label":
        return ArrayOutput(target.name, number, "label", root / "labels" / target.name, root, "../../")
    if in_store:
        raise InvalidConfiguration(f"{target.name} ends in an image, not in labels; give --out DIR to hold it")
    name = f"{image}-{target.name}.ome.zarr" if several else f"{image}.ome.zarr"
    final = root / f"{target.kind}s" / name
    return ArrayOutput(target.name, number, target.kind, final, None, os.path.relpath(source, final))


def _wanted(pipeline: PipelineFile, inputs: Inputs) -> list[str | int | None]:
    """The channels that steps read and measure; None is an image's one channel."""
    measured = [
        step.params.get("channels") for item in pipeline.objects for step in item.steps if step.name == "measure"
    ]
    listed = [
        c for some in measured for c in (some if isinstance(some, list | tuple) else [some] if some is not None else [])
    ]
    return [item.channel if item.channel is not None else inputs.channel for item in pipeline.objects] + listed


def _same_channels(volumes: Sequence[Volume], wanted: Sequence[str | int | None]) -> None:
    # A channel is resolved once, in the first image; those that nothing asks for may differ.
    first = volumes[0]
    for other in volumes[1:]:
        names = [[c.name for c in v.channels] for v in (other, first)]
        if names[0] != names[1] and not all(_same_channel(first, other, channel) for channel in wanted):
            raise InvalidInput(
                f"{other.path} has the channels {', '.join(names[0])} but {first.path} has {', '.join(names[1])}; run them apart"
            )


def _same_channel(first: Volume, other: Volume, channel: str | int | None) -> bool:
    """Whether a channel is the same in two images that differ in some; "all" is not."""
    if channel is None:
        return first.channel_count == other.channel_count == 1
    try:
        numbers = [volume.channel_index(channel) for volume in (first, other)]
    except InvalidInput:
        return False
    named = [volume.channels[n].name for volume, n in zip((first, other), numbers, strict=True)]
    return numbers[0] == numbers[1] and (named[0] == named[1] or first.channel_count == other.channel_count == 1)


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
