"""Main: the command `cristae`. Words in, one engine function called, its result shown; errors in one sentence."""

from __future__ import annotations

import os
import sys
from typing import Annotated

import typer

from cristae.errors import CristaeError, Stopped, UsageError
from cristae_cli import after, segment, simulate
from cristae_cli import options as o
from cristae_cli.evaluate import compare, evaluate
from cristae_cli.familiar import check_model
from cristae_cli.running import plan_out
from cristae_cli.running import run_job as carry_out
from cristae_cli.train import train

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
    help="Exact, stitched, measured organelles from microscope volumes of any size.",
)


@app.command()
def convert(
    src: Annotated[str, typer.Argument(help="TIFF, CZI, ND2, LIF, IMS, HDF5, .npy, .npz, Zarr or OME-Zarr.")],
    dst: Annotated[str, typer.Argument(help="The OME-Zarr to write, such as cell.ome.zarr.")],
    chunk: Annotated[str | None, typer.Option("--chunk", help="Voxels read at once, Z,Y,X.")] = None,
    shard: Annotated[str | None, typer.Option("--shard", help="Voxels written at once, Z,Y,X.")] = None,
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
) -> None:
    """Write the same voxels as a sharded, checksummed OME-Zarr 0.5."""
    from cristae.pipeline.jobs import convert_job

    inner = o.shape(chunk, "--chunk")
    job = convert_job(src, dst, o.inputs(axes, voxel_um, frame_interval_s, channel, time, scene, crop), inner)
    carry_out(job, o.settings(cluster, memory, shard or block, device, fresh, chunk, pyramid))


@app.command()
def label(
    mask: Annotated[str, typer.Argument(help="A bool or integer volume; what is not 0 is foreground.")],
    dst: Annotated[str, typer.Argument(help="x.ome.zarr/labels/NAME, or a label of its own.")],
    connectivity: Annotated[int | None, typer.Option("--connectivity", help="1 to 3; default: all neighbours.")] = None,
    min_voxels: Annotated[int, typer.Option("--min-voxels", help="Drop smaller objects.")] = 0,
    multilabel: Annotated[bool, typer.Option("--multilabel", help="Only equal values join.")] = False,
    pyramid: o.Pyramid = True,
    axes: o.Axes = None,
    voxel_um: o.VoxelUm = None,
    frame_interval_s: o.FrameInterval = None,
    channel: o.Channel = None,
    time: o.Time = None,
    scene: o.Scene = None,
    cluster: o.Cluster = "auto",
    memory: o.Memory = None,
    block: o.Block = None,
    device: o.Device = "auto",
    fresh: o.Fresh = False,
) -> None:
    """Number the connected objects of a mask, exactly as on the whole volume in memory."""
    from cristae.pipeline.jobs import label_job

    params = {"connectivity": connectivity, "min_voxels": min_voxels, "multilabel": multilabel}
    job = label_job(mask, dst, o.inputs(axes, voxel_um, frame_interval_s, channel, time, scene), params)
    carry_out(job, o.settings(cluster, memory, block, device, fresh, pyramid=pyramid))


@app.command()
def measure(
    labels: Annotated[str, typer.Argument(help="A label volume, or a runs.parquet of objects that overlap.")],
    out: Annotated[str, typer.Option("--out", help="The table to write, .parquet or .csv.")],
    image: Annotated[str | None, typer.Option("--image", help="The image for intensity columns.")] = None,
    columns: Annotated[
        str | None, typer.Option("--columns", help="Groups or columns: shape,surface,intensity.")
    ] = None,
    axes: o.Axes = None,
    voxel_um: o.VoxelUm = None,
    frame_interval_s: o.FrameInterval = None,
    channel: o.Channel = None,
    time: o.Time = None,
    scene: o.Scene = None,
    cluster: o.Cluster = "auto",
    memory: o.Memory = None,
    block: o.Block = None,
    device: o.Device = "auto",
    fresh: o.Fresh = False,
) -> None:
    """Measure every object of a label volume, one row each."""
    from cristae.pipeline.jobs import measure_job

    chosen = [c.strip() for c in columns.split(",")] if columns is not None else None
    job = measure_job(labels, out, o.inputs(axes, voxel_um, frame_interval_s, channel, time, scene), image, chosen)
    carry_out(job, o.settings(cluster, memory, block, device, fresh))


@app.command()
def run(
    pipeline: o.Pipeline,
    inputs: o.Images = None,
    out: o.OutFolder = None,
    set_: o.Set = None,
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
    """Run a pipeline over images: labels and a table for each of its objects."""
    from cristae.pipeline.jobs import run_job
    from cristae.pipeline.named import load_pipeline

    found = load_pipeline(pipeline, set_ or [])
    job = run_job(
        found, inputs or list(found.inputs), out, o.inputs(axes, voxel_um, frame_interval_s, channel, time, scene, crop)
    )
    settings = o.settings(cluster, memory, block, device, fresh, pyramid=pyramid)
    carry_out(job, settings, on_finish, dry_run)


@app.command()
def preview(
    pipeline: o.Pipeline,
    image: Annotated[str, typer.Argument(help="The image to look at.")],
    out: Annotated[str, typer.Option("--out", help="The picture to write, .png.")] = "preview.png",
    set_: Annotated[
        list[str] | None,
        typer.Option(
            "--set", help="A panel with this value changed: ridge.radius_um.max=0.4; several in one: 'A=1; B=2'."
        ),
    ] = None,
    crop: o.Crop = None,
    axes: o.Axes = None,
    voxel_um: o.VoxelUm = None,
    frame_interval_s: o.FrameInterval = None,
    channel: o.Channel = None,
    time: o.Time = None,
    scene: o.Scene = None,
) -> None:
    """Show what a pipeline finds in a small box, one panel a setting. Only the picture is written."""
    from pathlib import Path

    from cristae.pipeline.named import load_pipeline
    from cristae.pipeline.picture import write_png
    from cristae.pipeline.preview import preview as look
    from cristae.pipeline.preview import sheet
    from cristae_cli.show import show_panels

    o.picture(out, "--out")
    first, last = o.time_range(time) or (0, 1)
    if last != first + 1:
        raise UsageError(f"--time {time} is more than one time point; a preview shows one")
    pipelines = {"as written": load_pipeline(pipeline, [])}
    pipelines |= {change: load_pipeline(pipeline, [c.strip() for c in change.split(";")]) for change in set_ or []}
    volume = o.inputs(axes, voxel_um, frame_interval_s, channel, None, scene, crop).open(image)
    panels = look(pipelines, volume, channel, first)
    Path(out).parent.mkdir(parents=True, exist_ok=True)
    write_png(out, sheet(panels))
    show_panels(panels, out)


@app.command()
def new(name: Annotated[str, typer.Argument(help="mitochondria, vesicles or nuclei.")]) -> None:
    """Print a shipped pipeline as a commented file, to change and run: cristae new nuclei > mine.yaml"""
    from cristae.pipeline.named import text_of

    print(text_of(name), end="")


@app.command()
def info(
    path: Annotated[str, typer.Argument(help="A volume.")],
    json: o.Json = False,
    axes: o.Axes = None,
    voxel_um: o.VoxelUm = None,
    scene: o.Scene = None,
) -> None:
    """Say what a volume is: axes, shape, voxel size, channels, chunks. No voxel is read."""
    from cristae.errors import InvalidInput, SeveralScenes
    from cristae.store.finding import find
    from cristae_cli.show import show_found, show_volume

    try:
        show_volume(o.inputs(axes, voxel_um, scene=scene).open(path), json)
    except SeveralScenes as several:
        for number, name in enumerate(several.scenes):
            show_found(find(path, axes, str(number)), "", json, name)
    except InvalidInput as lacking:
        if axes is not None or voxel_um is not None:
            raise
        show_found(find(path, axes, scene), str(lacking), json)


@app.command()
def plan(
    pipeline: o.Pipeline,
    inputs: o.Images = None,
    out: Annotated[str | None, typer.Option("--out", help="Folder for labels and tables.")] = None,
    set_: o.Set = None,
    json: o.Json = False,
    probe: Annotated[bool, typer.Option("--probe", help="Run one block of each line and add a time.")] = False,
    workers: Annotated[
        int | None, typer.Option("--workers", min=1, help="Say how long so many workers would take together.")
    ] = None,
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
    pyramid: o.Pyramid = True,
    device: o.Device = "auto",
) -> None:
    """Say what a run would read, write and need, and refuse what cannot fit. Nothing is written."""
    from cristae.pipeline.jobs import run_job
    from cristae.pipeline.named import load_pipeline

    found = load_pipeline(pipeline, set_ or [])
    job = run_job(
        found, inputs or list(found.inputs), out, o.inputs(axes, voxel_um, frame_interval_s, channel, time, scene, crop)
    )
    plan_out(job, o.settings(cluster, memory, block, device, False, pyramid=pyramid), probe, json, workers)


app.add_typer(simulate.app, name="simulate")

for command in (
    segment.segment,
    segment.models,
    check_model,
    train,
    evaluate,
    compare,
    after.status,
    after.audit,
    after.view,
    after.report,
    after.export,
    after.clean,
    simulate.psf,
):
    app.command()(command)


@app.command()
def stages(
    name: Annotated[str | None, typer.Argument(help="A step; by default all are listed.")] = None,
    schema: Annotated[bool, typer.Option("--schema", help="As JSON schema.")] = False,
) -> None:
    """List the steps a pipeline may name, or explain one."""
    from cristae_cli.show import show_stages

    show_stages(name, schema)


@app.command()
def doctor() -> None:
    """Say which versions, cores, memory, devices and readers are here."""
    from cristae_cli.show import show_doctor

    show_doctor()


@app.command()
def demo(
    out: Annotated[str, typer.Option("--out", help="Folder to write to; nothing else is touched.")] = "cristae-demo",
) -> None:
    """Show all of it on a volume made on the spot: render, run, kill a worker, run otherwise, compare."""
    from pathlib import Path

    from cristae.pipeline.demo import demo as show
    from cristae_cli.show import show_demo
    from cristae_cli.talk import progress, say

    folder = Path(out).absolute()
    with progress() as listen:
        shown = show(folder, listen, say)
    show_demo(shown, folder)


def main() -> None:
    """Run the command and turn every error a user can cause into one sentence and an exit code."""
    import logging
    import signal
    import warnings

    for library in ("tifffile", "asyncio"):  # what they notice of a broken file, our own error says in one sentence
        logging.getLogger(library).disabled = True

    def stop(number: int, _: object) -> None:
        raise Stopped("stopped; the same command goes on where this one left off", number)

    for name in ("SIGINT", "SIGTERM", "SIGHUP"):
        if hasattr(signal, name):
            signal.signal(getattr(signal, name), stop)
    warnings.showwarning = lambda message, *_, **__: print(f"warning: {message}", file=sys.stderr)
    try:
        app(standalone_mode=False)
        sys.stdout.flush()  # here, where a reader that went away can still be met
    except (CristaeError, Stopped) as error:
        _end(str(error), error.exit_code)
    except typer.Exit as leave:
        sys.exit(leave.exit_code)
    except BrokenPipeError:
        # Whoever read our output has gone, as `head` does; Python must not try to flush the rest when it ends.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(1)
    except OSError as error:
        _end(f"{error.filename}: {error.strerror}" if error.filename else str(error), 1)
    except Exception as error:
        show = getattr(error, "format_message", None)  # what typer says of words it cannot understand
        if show is None:
            raise
        if not show():  # no word at all: the help was printed
            sys.exit(2)
        _end(f"{show().rstrip('.')}; see 'cristae --help'", 2)


def _end(text: str, code: int) -> None:
    print(f"cristae: {text}", file=sys.stderr)
    sys.exit(code)


if __name__ == "__main__":
    main()
