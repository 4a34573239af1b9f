"""Segment: the commands of models: one that finds objects with a trained network, and one that says what there is."""

from __future__ import annotations

from typing import Annotated

import typer

from cristae.errors import UsageError
from cristae_cli import options as o
from cristae_cli.running import run_job as carry_out


def segment(
    model: Annotated[str, typer.Option("--model", help="A name that cristae models lists, or a .safetensors file.")],
    inputs: Annotated[
        list[str] | None, typer.Argument(help="Images, folders, globs or a sheet, as run takes them.")
    ] = None,
    out: o.OutFolder = None,
    class_: Annotated[
        str | None, typer.Option("--class", help="What to find, where the model knows several kinds.")
    ] = None,
    name: Annotated[str | None, typer.Option("--name", help="What the result is called; by default the class.")] = None,
    above: Annotated[
        float, typer.Option("--above", help="Voxels above this probability are foreground; 0 to 1.")
    ] = 0.5,
    min_diameter_um: Annotated[
        float | None,
        typer.Option("--min-diameter-um", help="Drop objects smaller than this ball, in 2D disc; 0 drops none."),
    ] = None,
    separate_um: Annotated[
        float,
        typer.Option("--separate-um", help="Part round objects whose middles are at least this far apart instead."),
    ] = 0.0,
    split: Annotated[
        bool,
        typer.Option("--split/--no-split", help="Part objects that touch, where the probability dips between them."),
    ] = True,
    measure: Annotated[
        str, typer.Option("--measure", help="Columns of the table: groups or single ones, with commas between.")
    ] = "shape,intensity",
    tile: Annotated[
        str | None, typer.Option("--tile", help="Voxels the network sees at once, Z,Y,X or Y,X; chosen for the model.")
    ] = None,
    overlap: Annotated[
        float | None, typer.Option("--overlap", help="Share of a tile that its neighbour sees too, such as 0.5.")
    ] = None,
    blend: Annotated[
        str, typer.Option("--blend", help="How tiles become one: gaussian, hann, or crop, which is exact.")
    ] = "gaussian",
    mirror: Annotated[
        bool, typer.Option("--mirror", help="The mean over flipped tiles: 4 times slower in the plane, 8 in space.")
    ] = False,
    precision: Annotated[
        str, typer.Option("--precision", help="single, or mixed: float16 where a GPU computes, faster and less exact.")
    ] = "single",
    keep: Annotated[
        bool, typer.Option("--keep", help="Keep the probability, so that a later run starts from it.")
    ] = False,
    print_: Annotated[
        bool, typer.Option("--print", help="Only print the pipeline that this is, as a file to change and run.")
    ] = False,
    pyramid: o.Pyramid = True,
    axes: o.Axes = None,
    voxel_um: o.VoxelUm = None,
    frame_interval_s: o.FrameInterval = None,
    channel: o.Channel = None,
    time: o.Time = None,
    scene: o.Scene = None,
    crop: o.Crop = None,
    cluster: o.Cluster = "auto",
    memory: o.Memory = None,
    block: o.Block = None,
    device: o.Device = "auto",
    fresh: o.Fresh = False,
    dry_run: o.DryRun = False,
    on_finish: o.OnFinish = None,
) -> None:
    """Find objects with a trained network: labels, a table and an overview of every image in one go.

    It is the pipeline segment, split by probability, label, measure; --print shows it.
    """
    import shlex
    import sys

    from cristae.inference.named import model_of
    from cristae.inference.network import require
    from cristae.pipeline.jobs import run_job
    from cristae.pipeline.segmenting import LOOKED_AT, Wish, likeness_of, pipeline_of, remarks, written
    from cristae_cli.talk import say

    groups = tuple(word.strip() for word in measure.split(","))
    size = o.shape(tile, "--tile")
    lengths = above, min_diameter_um, separate_um
    pipeline = pipeline_of(
        Wish(model, class_, name, channel, *lengths, split, size, overlap, blend, mirror, precision, keep, groups)
    )
    if print_:
        print(written(pipeline, shlex.join(["cristae", *(word for word in sys.argv[1:] if word != "--print")])), end="")
        return
    if not inputs:
        raise UsageError("segment was given no image; name one, or say --print for the pipeline alone")
    found = model_of(model)
    if not dry_run:
        require(found.path)
    job = run_job(pipeline, inputs, out, o.inputs(axes, voxel_um, frame_interval_s, None, time, scene, crop))
    for image in job.images[:LOOKED_AT]:
        say(likeness_of(found, image.volumes["input"], channel))
    for remark in dict.fromkeys(one for image in job.images for one in remarks(found, image.volumes["input"])):
        say(remark)
    settings = o.settings(cluster, memory, block, device, fresh, pyramid=pyramid)
    carry_out(job, settings, on_finish, dry_run)


def models(
    name: Annotated[
        str | None, typer.Argument(help="A name or a .safetensors file; by default all are listed.")
    ] = None,
    json: o.Json = False,
) -> None:
    """List the models that come with cristae, or say all that one says of itself."""
    from cristae.inference.named import model_of
    from cristae.inference.named import models as every
    from cristae_cli.cards import show_model, show_models

    if name is not None:
        show_model(model_of(name), json)
    else:
        show_models(every(), json)
