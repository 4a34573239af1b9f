"""Inference: what does it cost to tile a network, against the network alone and against MONAI, and a run against its network and its files?

    alone     the network on the same tiles, in a bare loop: nothing is cut out with care, weighed or added up
    MONAI     its SlidingWindowInferer, tiles one at a time; what it gives is compared voxel by voxel
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
    "run": {"ndim": 2, "features": (16,), "overlap": 0.25},
}
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
    model(folder, "run", sizes["tiles"]["run"])
    for name in ("run", "tiny"):
        stored(folder / f"{name}.zarr", camera(sizes[name]), sizes[name], sizes["chunk"], "uint16")
    value = float(np.quantile(loaded_network(folder, "run")(camera(sizes["tiny"])(0, 1)[0]), 0.9))
    (folder / "value.txt").write_text(repr(value))
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


def loaded_network(folder: Path, name: str) -> Callable[[np.ndarray], np.ndarray]:
    """The bare network: counts to probabilities, one tile at a time."""
    import torch

    from cristae.inference.network import load_model

    torch.set_num_threads(1)
    module = load_model(folder / f"{name}.safetensors").module

    def probability(tile: np.ndarray) -> np.ndarray:
        with torch.inference_mode():
            seen = torch.from_numpy(tile.astype(np.float32) / TOP)[None, None]
            return np.asarray(module(seen).sigmoid()[0, 0])

    return probability


def stage_of(folder: Path, name: str, rule: str) -> Any:
    """The step segment on an array; tiles lie by our rule ("even") or by MONAI's ("shifted")."""
    from cristae.inference import segment

    facts = MODELS[name]
    stage = segment(
        model=str(folder / f"{name}.safetensors"), voxel_um=VOXEL_UM[facts["ndim"]], overlap=facts["overlap"]
    )
    words = stage.apply.keywords
    words["tiling"] = replace(words["tiling"], rule=rule)
    return stage


def alone(name: str) -> Callable[[Turn], Mapping[str, Any]]:
    def run(turn: Turn) -> Mapping[str, Any]:
        from cristae.grid import Box

        image = np.load(turn.inputs / f"{name}.npy")
        network = loaded_network(turn.inputs, name)
        tiling = stage_of(turn.inputs, name, "shifted").apply.keywords["tiling"]
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
        stage = stage_of(turn.inputs, name, rule)
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


def by_monai(folder: Path, name: str, sizes: Mapping[str, Any], turn: Turn | None = None) -> np.ndarray:
    """MONAI's inferer on an array in memory, against the clock of a turn where there is one."""
    import torch
    from monai.inferers import SlidingWindowInferer

    from cristae.inference.network import load_model

    torch.set_num_threads(1)
    module = load_model(folder / f"{name}.safetensors").module
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


def monai(name: str) -> Callable[[Turn], Mapping[str, Any] | None]:
    def run(turn: Turn) -> None:
        by_monai(turn.inputs, name, turn.sizes, turn)

    return run


# ------------------------------------------------------------------------------------------------- a whole run


def job(turn: Turn, name: str) -> Any:
    text = STEPS.format(
        model=turn.inputs / "run.safetensors",
        tile=list(turn.sizes["tiles"]["run"]),
        value=(turn.inputs / "value.txt").read_text(),
    )
    return pipeline(text, turn.inputs / f"{name}.zarr", turn.folder / name, VOXEL_UM[3])


def run(turn: Turn) -> Mapping[str, Any]:
    """Zarr to labels, Parquet and picture, in one process; peak memory is that of a worker, as is the plan's."""
    import polars

    from cristae.pipeline.execute import execute, plan
    from cristae.pipeline.job import Settings

    settings = Settings(cluster="none", memory=turn.sizes["memory"], pyramid=False)
    execute(job(turn, "tiny"), settings, lambda event: None)
    work = job(turn, "run")
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


def network_and_files(turn: Turn) -> Mapping[str, Any]:
    """What no run can do without: the image read, the network on each of its tiles, and probabilities, then labels, to Zarr and one back."""
    import zarr

    from cristae.grid import Box
    from cristae.inference.tiles import tiling_of

    network = loaded_network(turn.inputs, "run")
    image: Any = zarr.open_array(turn.inputs / "run.zarr", mode="r")
    shape = image.shape
    tile = tuple(turn.sizes["tiles"]["run"])
    reach = reach_of(turn.inputs / "run.safetensors")
    tiling = tiling_of("segment", 3, tile, None, "crop", (1, 1), reach)
    network(image[0][: tile[0], : tile[1]])
    chunk = tuple(turn.sizes["chunk"])
    names = {"probability": "float32", "labels": "uint32"}
    out: Any = {
        n: zarr.create_array(turn.folder / f"{n}.zarr", shape=shape, chunks=chunk, dtype=d) for n, d in names.items()
    }
    tiles = 0
    with turn.clock():
        for z in range(0, shape[0], chunk[0]):
            slab = image[z : z + chunk[0]]
            found = np.zeros(slab.shape, np.float32)
            for one in tiling.meeting(Box.whole(slab.shape), slab.shape):
                found[one.counts.slices] = network(slab[one.box.slices][0])[one.counts.within(one.box)[1:]]
                tiles += 1
            out["probability"][z : z + chunk[0]] = found
        for z in range(0, shape[0], chunk[0]):
            out["labels"][z : z + chunk[0]] = (out["probability"][z : z + chunk[0]] > 0.5).astype(np.uint32)
    return {"tiles": tiles}


def reach_of(path: Path) -> tuple[int, ...]:
    from cristae.inference.card import read_card

    reach = read_card(path)[0].reach
    assert reach is not None
    return reach


LEARN: dict[str, Any] = {
    "needs": ("torch", "monai"),
    "install": "torch==2.13.0 monai==1.6.1",
    "packages": ("torch", "monai"),
}


def rows() -> Iterator[Tool]:
    for name, words, runs in (("plane", "2D", 3), ("space", "3D", 2)):
        yield Tool(f"network alone, {words}", alone(name), **LEARN, runs=runs)
        yield Tool(f"cristae, {words}", cristae(name, "shifted"), **LEARN, runs=runs)
        yield Tool(f"MONAI, {words}", monai(name), **LEARN, runs=runs)
    yield Tool("network alone, b3", alone("b3"), **LEARN)
    yield Tool("cristae, b3", cristae("b3", "even"), **LEARN)
    yield Tool("network and files", network_and_files, **LEARN, runs=1)
    yield Tool("cristae, run", run, **LEARN, runs=1)


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
            for target in (
                Target("wall_s", f"network alone, {words}", (f"cristae, {words}",), at_least=0.95),
                Target("cpu_s", f"network alone, {words}", (f"cristae, {words}",)),
                Target("wall_s", f"MONAI, {words}", (f"cristae, {words}",), at_least=1),
                Target("apart", f"cristae, {words}", at_most=1e-5),
            )
        ),
        Target("wall_s", "network alone, b3", ("cristae, b3",)),
        Target("wall_s", "cristae, run", ("network and files",), at_most=1.15),
        Target("cpu_s", "cristae, run", ("network and files",)),
        Target("over_plan", "cristae, run", at_most=1),
        Target("over_memory", "cristae, run", at_most=1),
    ),
    notes=(
        "Random weights from a seed: 0.2 million (2D: 121 tiles of 256 x 256 in 2048 x 2048), 0.6 million (3D: 27 of 32 x 128 "
        "x 128 in 64 x 256 x 256), 14 million (b3: MONAI's FlexibleUNet with efficientnet-b3, ten times one tile of 256 x 256). "
        "One thread. Tiles lie where MONAI puts them, and each tool has computed a tile before the clock starts. `apart`: the "
        "largest difference from MONAI's result. `network and files`: the stack read once, the network on each tile, "
        "probabilities written and read, as many bytes as the labels have written, by zarr-python; the stack, its probabilities "
        "and labels are 2.7 GB, and `--memory` is 1.5 GiB. The run has a network of 2 600 weights, so that what is not network shows."
    ),
)

if __name__ == "__main__":
    ask(QUESTION)
