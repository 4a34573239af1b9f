"""Show: what commands print of facts, as words for a person or as JSON for a program."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from cristae_cli import talk

RUNS = (
    "runs: every object's own voxels, where objects overlap too; each object lies in one layer, and none overlap there"
)


def _rows(rows: Sequence[tuple[str, str]]) -> None:
    width = max(len(name) for name, _ in rows)
    for name, value in rows:
        print(f"{name:<{width}}  {value}")


def _times(shape: Sequence[int]) -> str:
    return " x ".join(str(n) for n in shape)


def _bytes(n: float) -> str:
    return f"{n / 2**30:.2f} GiB" if n >= 2**30 else f"{n / 2**20:.0f} MiB"


def show_volume(volume: Any, as_json: bool) -> None:
    """The facts of a volume."""
    if as_json:
        print(
            json.dumps(
                {
                    "path": volume.path,
                    "kind": volume.kind,
                    "reader": volume.reader,
                    "axes": volume.axes,
                    "shape": volume.shape,
                    "dtype": volume.dtype,
                    "voxel_um": volume.voxel_um,
                    "translation_um": volume.translation_um,
                    "frame_interval_s": volume.frame_interval_s,
                    "channels": [c.name for c in volume.channels],
                    "chunk": volume.chunk,
                    "write_unit": volume.unit,
                    "levels": [level.shape for level in volume.levels],
                }
            )
        )
        return
    sizes = [f"{a} {v:g}" for a, v in zip(volume.spatial_axes, volume.voxel_um, strict=True)]
    rows = [
        ("path", volume.path),
        ("kind", volume.kind if volume.reader != "runs" else RUNS),
        ("axes", volume.axes),
        ("shape", _times(volume.shape)),
        ("dtype", volume.dtype),
        ("voxel um", ", ".join(sizes)),
        ("channels", ", ".join(c.name for c in volume.channels)),
        ("chunk", _times(volume.chunk)),
        *([("shard", _times(volume.unit))] if volume.unit != volume.chunk else []),
        ("levels", ", ".join(_times(level.shape) for level in volume.levels)),
    ]
    if "t" in volume.axes:
        interval = volume.frame_interval_s
        rows.append(("frame interval s", "unknown" if interval is None else f"{interval:g}"))
    _rows(rows)


def show_found(found: Any, lacks: str, as_json: bool, scene: str | None = None) -> None:
    """What a file says about one of its scenes, and in one sentence what it lacks to be a volume."""
    array = found.arrays[0]
    facts = {
        "path": found.path,
        "name": found.name,
        "scene": array.path if scene is None else scene,
        "axes": found.axes,
        "shape": array.shape,
        "dtype": array.dtype,
        "voxel_um": {a: v for a, v in array.scale.items() if a != "t"},
        "channels": [c.name for c in found.channels],
        "lacks": lacks,
    }
    if as_json:
        print(json.dumps(facts))
        return
    sizes = ", ".join(f"{a} {v:g}" for a, v in facts["voxel_um"].items())
    said = {**facts, "axes": found.axes or "not said", "shape": _times(array.shape), "voxel um": sizes or "not said"}
    said |= {"channels": ", ".join(facts["channels"])}
    _rows([(name, str(value)) for name, value in said.items() if value and name != "voxel_um"])


def show_panels(panels: Sequence[Any], out: str) -> None:
    """What each panel of a preview found, and where the picture is."""
    for panel in panels:
        cuts = "".join(f"; {step} {value:.4g}" for step, value in panel.thresholds.items())
        print(f"{panel.object}, {panel.setting}: {panel.objects} objects, {panel.size:.4g} {panel.unit}{cuts}")
    if any(panel.thresholds for panel in panels):
        print("thresholds are those of this box; those of a whole image may differ")
    print(out)


def show_plan(plan: Any, limit: int, choices: Sequence[Any], probed: Any, workers: int | None, as_json: bool) -> None:
    """What a run would do, pass by pass."""
    if as_json:
        facts = {
            "block": plan.block,
            "memory": plan.memory,
            "memory_limit": limit,
            "driver": plan.driver,
            "core_hours": plan.seconds / 3600,
            "scratch": plan.scratch,
            "output": plan.output,
            "passes": [{n: getattr(p, n) for n in p.__dataclass_fields__} for p in plan.passes],
            "choices": [{n: getattr(c, n) for n in c.__dataclass_fields__} for c in choices],
            "probe": None if probed is None else {n: getattr(probed, n) for n in probed.__dataclass_fields__},
        }
        print(json.dumps(facts, default=dict))
        return
    from rich.table import Table

    table = Table("steps", "blocks", "read", "decoded", "written", "memory")
    for p in plan.passes:
        decoded = f"{p.amplification:.2f}x"
        table.add_row(p.name, str(p.blocks), _bytes(p.bytes_read), decoded, _bytes(p.bytes_written), _bytes(p.memory))
    talk.console(soft_wrap=True).print(table)
    for c in choices:
        word = "staged in scratch" if c.staged else "computed again"
        print(
            f"{c.node} is needed {c.uses} times and is {word} "
            f"(again {c.again_ns:.0f} ns a voxel, scratch {c.scratch_ns:.0f} ns)"
        )
    rows = [
        ("block", _times(plan.block)),
        ("memory", f"{_bytes(plan.memory)} a worker of {_bytes(limit)} it may take, {_bytes(plan.driver)} the driver"),
        ("disk", f"{_bytes(plan.output)} of results and {_bytes(plan.scratch)} of scratch, before compression"),
        ("work", f"about {plan.seconds:.0f} CPU seconds by the stages' stated costs"),
    ]
    if workers is not None:
        hours = plan.seconds / 3600
        rows.append(
            ("workers", f"{hours:.3g} core-hours; {workers} workers share them in about {hours / workers:.3g} hours")
        )
    if probed is not None:
        rows.append(("time", f"{probed.low_s:.0f} to {probed.high_s:.0f} s, from one block of {probed.block_s:.2f} s"))
    _rows(rows)


def show_status(runs: Sequence[Any], with_failed: bool, as_json: bool) -> None:
    """Where runs stand."""
    if as_json:
        print(
            json.dumps(
                [
                    {
                        "name": r.name,
                        "state": r.state,
                        "held_by": r.held_by,
                        "why": r.why,
                        "worker_seconds": r.worker_seconds,
                        "peak": r.peak,
                        "passes": [{n: getattr(p, n) for n in p.__dataclass_fields__} for p in r.passes],
                        "failed": [{n: getattr(f, n) for n in f.__dataclass_fields__} for f in r.failed],
                        "images": [{n: getattr(i, n) for n in i.__dataclass_fields__} for i in r.images],
                    }
                    for r in runs
                ]
            )
        )
        return
    for run in runs:
        more = f", by {run.held_by}" if run.held_by else f": {run.why}" if run.why else ""
        print(f"{run.name}: {run.state}{more}")
        for p in run.passes:
            aside = f", {p.aside} failed (set aside)" if p.aside else ""
            print(f"  {p.committed}/{p.total} {p.name}{aside}")
        if len(run.images) > 1:
            _show_images(run.images)
        if with_failed:
            for f in run.failed:
                print(f"  block {f.block} of {f.passed}: {f.error}\n{f.trace}")


def _show_images(images: Sequence[Any]) -> None:
    """How many images of a batch are done, and each that is not, as far as they fit a screen."""
    states = ("done", "failed", "missing")
    counts = {state: sum(i.state == state for i in images) for state in states}
    print(f"  images: {', '.join(f'{n} {state}' for state, n in counts.items() if n)}")
    others = [i for i in images if i.state != "done"]
    for image in others[:20]:
        print(f"    {image.state}: {image.name}{': ' + image.why if image.why else ''}")
    if len(others) > 20:
        print(f"    and {len(others) - 20} more; --json lists all")


def show_stages(name: str | None, schema: bool) -> None:
    """The steps of a pipeline and what may be set on each."""
    import inspect
    from difflib import get_close_matches

    from cristae.errors import InvalidConfiguration
    from cristae.pipeline.operations import OTHERS, PLANNED, parameters, stages

    found = {**stages(), **OTHERS}
    if name in PLANNED:
        raise InvalidConfiguration(f"step {name} is part of the format but not built yet")
    if name is not None and name not in found:
        near = get_close_matches(name, found, 1)
        raise InvalidConfiguration(
            f"there is no step {name}; "
            + (f"the nearest is {near[0]}, all are " if near else "there are ")
            + ", ".join(found)
        )
    if schema:
        print(json.dumps({n: _schema(parameters(n)) for n in found if name in (None, n)}))
        return
    if name is not None:
        print(f"{name}: {inspect.getdoc(found[name])}")
        if name == "measure":
            from cristae.morphology.columns import COLUMNS

            print()
            _rows([(n, f"{c.group}: {c.definition}" + (f" ({c.unit})" if c.unit else "")) for n, c in COLUMNS.items()])
        return
    _rows([(n, (inspect.getdoc(f) or "").partition("\n")[0]) for n, f in found.items()])
    print(f"\nnot built yet: {', '.join(PLANNED)}")


def _schema(parameters: Any) -> dict[str, Any]:
    return {
        "type": "object",
        "additionalProperties": False,
        "required": [n for n, p in parameters.items() if p.default is p.empty],
        "properties": {
            n: {"annotation": str(p.annotation)} | ({} if p.default is p.empty else {"default": p.default})
            for n, p in parameters.items()
        },
    }


def show_doctor() -> None:
    """What is installed and what this machine offers."""
    from importlib import util

    from cristae.array import resolve_device
    from cristae.cluster.model import usable_cores, usable_memory
    from cristae.pipeline.generation import versions
    from cristae.store.zarr_arrays import codec_pipeline

    rows = [(name, version) for name, version in versions().items()]
    rows += [("cores", str(usable_cores())), ("memory", _bytes(usable_memory())), ("device", resolve_device("auto"))]
    rows.append(("zarr pipeline", codec_pipeline()))
    for extra, modules in {
        "formats": ("imagecodecs", "nd2", "pylibCZIrw", "h5py"),
        "lif": ("readlif",),
        "cloud": ("obstore",),
        "fast": ("zarrs",),
        "learn": ("torch", "monai"),
        "gpu-cu12": ("cupy", "cucim"),
    }.items():
        here = [m for m in modules if util.find_spec(m) is not None]
        rows.append((f"extra {extra}", ", ".join(here) if here else f"not installed: pip install 'cristae[{extra}]'"))
    _rows(rows)


def show_demo(shown: Any, folder: Any) -> None:
    """What the demo found, and what to type next."""
    import polars
    from rich.table import Table

    console = talk.console(soft_wrap=True)
    console.print(f"\n{shown.differ} voxels differ of {shown.voxels} between the two runs")
    stored, floats = _bytes(shown.volume_bytes), _bytes(2 * shown.volume_bytes)
    console.print(
        f"peak memory of a worker {_bytes(shown.peak)}, imports included; the volume is {stored}, {floats} as float32"
    )
    columns = ("label", "voxels", "volume_um3", "axis_major_um", "surface_um2", "euler_number", "intensity_mean")
    largest = polars.scan_parquet(shown.table).select(columns).sort("voxels", descending=True).head(5).collect()
    table = Table(*columns, title=f"the 5 largest of {shown.objects} objects", title_justify="left")
    for row in largest.iter_rows():
        table.add_row(*(f"{v:.2f}" if isinstance(v, float) else str(v) for v in row))
    console.print(table)
    console.print(
        f"{shown.pairs} of {shown.true} true objects have a partner in the result; measured volume beside the true one: "
        f"bias {100 * shown.bias:+.0f} %, spread {100 * shown.spread:.0f} %"
    )
    if shown.finale is not None:
        _show_finale(shown.finale, console)
    _rows(
        [
            ("picture", str(shown.picture)),
            ("table", str(shown.table)),
            ("next", f"cristae info {shown.image}"),
            ("", "cristae run mitochondria YOUR.tif --out results"),
            *([("", "cristae segment YOUR.tif --model mito-3d --out results")] if shown.finale is not None else []),
            ("", "cristae simulate list"),
            ("delete", f"rm -r {folder}"),
        ]
    )


def _show_finale(end: Any, console: Any) -> None:
    """The network beside thresholds, and its largest objects."""
    from rich.table import Table

    shape = _times(end.box.shape)
    title = f"a box of {shape} voxels with {end.true} true objects; 1 is perfect, but for the count"
    figures = list(next(iter(end.scores.values())))
    table = Table("method", *figures, title=title, title_justify="left")
    for method, scores in end.scores.items():
        table.add_row(method, *(f"{scores[f]:.0f}" if f == "predictions" else f"{scores[f]:.2f}" for f in figures))
    console.print(table)
    console.print(
        f"the network took {end.seconds:.0f} s; its {len(end.table)} largest objects, for which the lazy table read "
        f"{end.read} of {end.blocks} blocks:"
    )
    rows = Table(*end.table.columns)
    for row in end.table.iter_rows():
        rows.add_row(*(f"{v:.2f}" if isinstance(v, float) else str(v) for v in row))
    console.print(rows)
