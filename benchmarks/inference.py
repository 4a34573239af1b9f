"""Inference: what does it cost to tile a network, against the network alone and against MONAI, and a run against its network and its files?

    alone     the network on the same tiles, in a bare loop: nothing is cut out with care, weighed or added up
    MONAI     its SlidingWindowInferer, tiles one at a time; what it gives is compared voxel by voxel
    ready     of either: the network as cristae makes it ready to compute, not as it was trained
    run       segment, threshold, label, measure: Zarr to labels and table, on a stack larger than `--memory`

Networks have random weights from a seed: how fast they are does not depend on what they know. One thread computes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from _engine import pipeline
from _inputs import camera, stored
from measuring import Question, Target, Tool, Turn, ask

TOP = 2000  # counts that the networks take for 1
VOXEL_UM = {2: (0.1, 0.1), 3: (0.1, 0.1, 0.1)}
MODELS: dict[str, dict[str, Any]] = {
    "plane": {"ndim": 2, "features": (16, 32, 96), "overlap": 0.25},
    "space": {"ndim": 3, "features": (16, 32, 96), "overlap": 0.5},
    "b3": {"ndim": 2, "overlap": 0.25},
    "run": {"ndim": 2, "features": (16, 32, 96), "overlap": 0.25},
    "light": {"ndim": 2, "features": (16,), "overlap": 0.25},
}
RUNS = ("run", "light")
STEPS = """\
output: {{name: bright}}
steps:
  - segment: {{model: {model}, blend: crop, tile: {tile}}}
  - threshold: {{value: {value}}}
  - label: {{min_voxels: 20}}
  - measure: [shape, intensity]
"""


def prepare(folder: Path, sizes: Mapping[str, Any]) -> None:
    """Images, model files, and what MONAI gives of each image."""
    for name in ("plane", "space", "b3"):
        shape = sizes[name]
        image = camera((1,) * (3 - len(shape)) + tuple(shape))(0, shape[0] if len(shape) == 3 else 1)
        np.save(folder / f"{name}.npy", image.reshape(shape))
        model(folder, name, sizes["tiles"][name])
    for name in ("run", "tiny"):
        stored(folder / f"{name}.zarr", camera(sizes[name]), sizes[name], sizes["chunk"], "uint16")
    for name in RUNS:
        model(folder, name, sizes["tiles"]["run"])
        value = float(np.quantile(network_of(folder, name)(camera(sizes["tiny"])(0, 1)[0]), 0.9))
        (folder / f"{name}.txt").write_text(repr(value))
    for name in ("plane", "space"):
        np.save(folder / f"{name}-monai.npy", by_monai(folder, name, sizes))


def model(folder: Path, name: str, tile: tuple[int, ...]) -> None:
    """A model file with random weights."""
    import torch

    from cristae.inference import build_network, card_of, save_model
    from cristae.inference.unet import hyper_of

    torch.manual_seed(0)
    facts = MODELS[name]
    ndim, architecture = facts["ndim"], "unet" if "features" in facts else "FlexibleUNet"
    hyper = (
        hyper_of(VOXEL_UM[ndim], facts["features"])
        if architecture == "unet"
        else {"in_channels": 1, "out_channels": 1, "backbone": "efficientnet-b3"}
    )
    network = build_network(architecture, hyper, ndim)
    how = {"how": "range", "low": 0, "high": TOP}
    card = card_of(architecture, hyper, voxel_um=VOXEL_UM[ndim], classes=("bright",), normalise=how, tile=tuple(tile))
    save_model(folder / f"{name}.safetensors", network, card)


def module_of(folder: Path, name: str, ready: bool) -> Any:
    """torch's own module, on one thread: as cristae makes it ready, or as it was trained."""
    import torch

    from cristae.inference import build_network, load_model
    from cristae.inference.card import contents, read_tensors

    torch.set_num_threads(1)
    path = folder / f"{name}.safetensors"
    if ready:
        return load_model(path).module
    card, tensors = read_tensors(path, contents(path))
    network = build_network(card.architecture, card.hyper, card.ndim)
    network.load_state_dict({key: torch.from_numpy(array.copy()) for key, array in tensors.items()})
    return network.eval().requires_grad_(False)


def network_of(folder: Path, name: str, ready: bool = True) -> Callable[[np.ndarray], np.ndarray]:
    """The bare network: counts to probabilities, one tile at a time."""
    import torch

    module = module_of(folder, name, ready)

    def probability(tile: np.ndarray) -> np.ndarray:
        with torch.inference_mode():
            seen = torch.from_numpy(tile.astype(np.float32) / TOP)[None, None]
            return np.asarray(module(seen).sigmoid()[0, 0])

    return probability


def stage_of(folder: Path, name: str, tile: tuple[int, ...], rule: str) -> Any:
    """The step segment on an array; tiles lie by our rule ("even") or by MONAI's ("shifted")."""
    from cristae.inference import segment

    facts = MODELS[name]
    stage = segment(
        model=str(folder / f"{name}.safetensors"), voxel_um=VOXEL_UM[facts["ndim"]], overlap=facts["overlap"], tile=tile
    )
    words = stage.apply.keywords
    words["tiling"] = replace(words["tiling"], rule=rule)
    return stage


def alone(name: str, ready: bool) -> Callable[[Turn], Mapping[str, Any]]:
    def run(turn: Turn) -> Mapping[str, Any]:
        from cristae.grid import Box

        image = np.load(turn.inputs / f"{name}.npy")
        network = network_of(turn.inputs, name, ready)
        tiling = stage_of(turn.inputs, name, turn.sizes["tiles"][name], "shifted").apply.keywords["tiling"]
        boxes = [tile.box.slices for tile in tiling.meeting(Box.whole(image.shape), image.shape)]
        network(image[boxes[0]])
        with turn.clock():
            for box in boxes * turn.sizes["times"].get(name, 1):
                network(image[box])
        return {"tiles": len(boxes) * turn.sizes["times"].get(name, 1)}

    return run


def cristae(name: str, rule: str) -> Callable[[Turn], Mapping[str, Any]]:
    """The stage on an array in memory."""

    def run(turn: Turn) -> Mapping[str, Any]:
        from cristae.inference.blend import HELD

        image = np.load(turn.inputs / f"{name}.npy")
        stage = stage_of(turn.inputs, name, turn.sizes["tiles"][name], rule)
        stage(image[tuple(slice(0, t) for t in turn.sizes["tiles"][name])])
        times = turn.sizes["times"].get(name, 1)
        with turn.clock():
            for _ in range(times):
                HELD.clear()
                found = stage(image)
        theirs = turn.inputs / f"{name}-monai.npy"
        apart = {"apart": float(np.abs(found - np.load(theirs)).max())} if rule == "shifted" and theirs.exists() else {}
        tiling = stage.apply.keywords["tiling"]
        return {"tiles": tiling.count(image.shape) * times, **apart}

    return run


def by_monai(
    folder: Path, name: str, sizes: Mapping[str, Any], ready: bool = False, turn: Turn | None = None
) -> np.ndarray:
    """MONAI's inferer on an array in memory, against the clock of a turn where there is one."""
    import torch
    from monai.inferers import SlidingWindowInferer

    module = module_of(folder, name, ready)
    inferer = SlidingWindowInferer(tuple(sizes["tiles"][name]), 1, MODELS[name]["overlap"], mode="gaussian")
    image = np.load(folder / f"{name}.npy")

    def whole() -> np.ndarray:
        seen = torch.from_numpy(image.astype(np.float32) / TOP)[None, None]
        return np.asarray(inferer(seen, lambda x: module(x).sigmoid())[0, 0])

    with torch.inference_mode():
        if turn is None:
            return whole()
        module(torch.zeros(1, 1, *sizes["tiles"][name]))
        with turn.clock():
            return whole()


def monai(name: str, ready: bool) -> Callable[[Turn], Mapping[str, Any] | None]:
    def run(turn: Turn) -> None:
        by_monai(turn.inputs, name, turn.sizes, ready, turn)

    return run


# ------------------------------------------------------------------------------------------------- a whole run


def job(turn: Turn, name: str, image: str) -> Any:
    text = STEPS.format(
        model=turn.inputs / f"{name}.safetensors",
        tile=list(turn.sizes["tiles"]["run"]),
        value=(turn.inputs / f"{name}.txt").read_text(),
    )
    return pipeline(text, turn.inputs / f"{image}.zarr", turn.folder / image, VOXEL_UM[3])


def whole(name: str) -> Callable[[Turn], Mapping[str, Any]]:
    """Zarr to labels, Parquet and picture, in one process; peak memory is that of a worker, as is the plan's."""

    def run(turn: Turn) -> Mapping[str, Any]:
        import polars

        from cristae.pipeline.execute import execute, plan
        from cristae.pipeline.job import Settings

        settings = Settings(cluster="none", memory=turn.sizes["memory"], pyramid=False)
        execute(job(turn, name, "tiny"), settings, lambda event: None)
        work = job(turn, name, "run")
        planned, _ = plan(work, settings)
        with turn.clock():
            made = execute(work, settings, lambda event: None)
        table = next(p for p in made.outputs if p.suffix == ".parquet")
        peak = turn.figures["peak_mb"] * 1e6
        return {
            "objects": polars.read_parquet(table).height,
            "plan_mb": planned.memory / 1e6,
            "over_plan": peak / planned.memory,
            "over_memory": peak / turn.sizes["memory"],
        }

    return run


def network_and_files(name: str) -> Callable[[Turn], Mapping[str, Any]]:
    """What no run can do without: the image read, the network on each of its tiles, and labels to Zarr."""

    def run(turn: Turn) -> Mapping[str, Any]:
        import zarr

        from cristae.grid import Box
        from cristae.inference.tiles import tiling_of

        network = network_of(turn.inputs, name)
        value = float((turn.inputs / f"{name}.txt").read_text())
        image: Any = zarr.open_array(turn.inputs / "run.zarr", mode="r")
        shape, chunk, tile = image.shape, tuple(turn.sizes["chunk"]), tuple(turn.sizes["tiles"]["run"])
        tiling = tiling_of("segment", 3, tile, None, "crop", stride_of(turn, name), reach_of(turn, name))
        network(image[0][: tile[0], : tile[1]])
        out: Any = zarr.create_array(turn.folder / "labels.zarr", shape=shape, chunks=chunk, dtype="uint32")
        tiles = 0
        with turn.clock():
            for z in range(0, shape[0], chunk[0]):
                slab = image[z : z + chunk[0]]
                found = np.zeros(slab.shape, np.uint32)
                for one in tiling.meeting(Box.whole(slab.shape), slab.shape):
                    inside = network(taken(slab, one.box))[one.counts.within(one.box)[1:]]
                    found[one.counts.slices] = inside > value
                    tiles += 1
                out[z : z + chunk[0]] = found
        return {"tiles": tiles}

    return run


def taken(slab: np.ndarray, box: Any) -> np.ndarray:
    """A tile of one plane; beyond the slab it is reflected, as little as that is."""
    (z, *start), (_, *stop) = box.start, box.stop
    rows, columns = (np.arange(a, b) for a, b in zip(start, stop, strict=True))
    high = [n - 1 for n in slab.shape[1:]]
    folded = [h - np.abs(h - np.abs(at)) for h, at in zip(high, (rows, columns), strict=True)]
    return slab[z][np.ix_(*folded)]


def card_at(turn: Turn, name: str) -> Any:
    from cristae.inference.card import read_card

    return read_card(turn.inputs / f"{name}.safetensors")[0]


def stride_of(turn: Turn, name: str) -> tuple[int, ...]:
    stride: tuple[int, ...] = card_at(turn, name).stride
    return stride


def reach_of(turn: Turn, name: str) -> tuple[int, ...]:
    reach: tuple[int, ...] | None = card_at(turn, name).reach
    assert reach is not None
    return reach


LEARN: dict[str, Any] = {
    "needs": ("torch", "monai"),
    "install": "torch==2.13.0 monai==1.6.1",
    "packages": ("torch", "monai"),
}


def rows() -> Iterator[Tool]:
    for name, words, runs in (("plane", "2D", 3), ("space", "3D", 3)):
        yield Tool(f"network alone, {words}", alone(name, False), **LEARN, runs=runs)
        yield Tool(f"network alone, ready, {words}", alone(name, True), **LEARN, runs=runs)
        yield Tool(f"cristae, {words}", cristae(name, "shifted"), **LEARN, runs=runs)
        yield Tool(f"MONAI, {words}", monai(name, False), **LEARN, runs=runs)
        yield Tool(f"MONAI, ready, {words}", monai(name, True), **LEARN, runs=runs)
    yield Tool("network alone, b3", alone("b3", False), **LEARN)
    yield Tool("network alone, ready, b3", alone("b3", True), **LEARN)
    yield Tool("cristae, b3", cristae("b3", "even"), **LEARN)
    for name, words in zip(RUNS, ("", ", light"), strict=True):
        yield Tool(f"network and files{words}", network_and_files(name), **LEARN, runs=1)
        yield Tool(f"cristae, run{words}", whole(name), **LEARN, runs=1)


QUESTION = Question(
    "inference",
    "A network over tiles: alone, tiled by cristae and by MONAI, and as a run from Zarr to labels",
    full={
        "plane": (2048, 2048),
        "space": (64, 256, 256),
        "b3": (256, 256),
        "run": (64, 2048, 2048),
        "tiny": (16, 512, 512),
        "tiles": {"plane": (256, 256), "space": (32, 128, 128), "b3": (256, 256), "run": (256, 256)},
        "times": {"b3": 10},
        "chunk": (16, 512, 512),
        "memory": 3 << 29,
    },
    small={
        "plane": (256, 256),
        "space": (16, 32, 32),
        "b3": (64, 64),
        "run": (16, 256, 256),
        "tiny": (8, 128, 128),
        "tiles": {"plane": (64, 64), "space": (8, 16, 16), "b3": (64, 64), "run": (128, 128)},
        "times": {"b3": 2},
        "chunk": (8, 128, 128),
        "memory": 1 << 30,
    },
    prepare=prepare,
    tools=tuple(rows()),
    targets=(
        *(
            target
            for words in ("2D", "3D")
            for way in ("", "ready, ")
            for target in (
                Target("wall_s", f"network alone, {way}{words}", (f"cristae, {words}",), at_least=0.95),
                Target("cpu_s", f"network alone, {way}{words}", (f"cristae, {words}",)),
                Target("wall_s", f"MONAI, {way}{words}", (f"cristae, {words}",), at_least=1),
            )
        ),
        *(Target("apart", f"cristae, {words}", at_most=1e-5) for words in ("2D", "3D")),
        Target("wall_s", "network alone, b3", ("cristae, b3",)),
        Target("wall_s", "network alone, ready, b3", ("cristae, b3",)),
        Target("wall_s", "cristae, run", ("network and files",), at_most=1.15),
        Target("cpu_s", "cristae, run", ("network and files",)),
        Target("wall_s", "cristae, run, light", ("network and files, light",)),
        Target("cpu_s", "cristae, run, light", ("network and files, light",)),
        Target("over_plan", "cristae, run", at_most=1),
        Target("over_memory", "cristae, run", at_most=1),
    ),
    notes=(
        "Random weights from a seed: 0.2 million (2D: 121 tiles of 256 x 256 in 2048 x 2048), 0.6 million (3D: 27 of 32 x 128 "
        "x 128 in 64 x 256 x 256), 14 million (b3: MONAI's FlexibleUNet with efficientnet-b3, ten times one tile of 256 x 256). "
        "One thread. Tiles lie where MONAI puts them, and each tool has computed a tile before the clock starts. `apart`: the "
        "largest difference from MONAI's result. `ready`: with batch normalisation folded into the convolutions, and the channels of a "
        "voxel together, as cristae loads it. `network and files`: the stack read once, the network, ready, on each tile, labels written "
        "as bright or not, by zarr-python; the stack and its labels are 1.6 GB, its probabilities 1.1, and `--memory` is 1.5 GiB. The "
        "network of a run has 0.2 million weights, or 2 600 (light), which shows what is not network."
    ),
)

if __name__ == "__main__":
    ask(QUESTION)
