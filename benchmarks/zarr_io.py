"""Zarr: how fast are checksummed shards of camera images written and read, with and without waiting for the disk?

One array of 1 GiB, chunks and shards alike for all; a read follows a write, so files come from the page cache. Durable
means that every file, and every folder that names it, is on the disk before the clock stops.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
from _inputs import VOXEL_UM, camera, loaded, stored
from _reporting import WORDS
from measuring import Question, Target, Tool, Turn, ask

Run = Callable[[Turn], Mapping[str, Any]]
Index = tuple[slice, ...]

CODECS: Mapping[str, tuple[tuple[str, Mapping[str, Any]], ...]] = {
    "zstd 1": (("zstd", {"level": 1}),),
    "blosc zstd 1 shuffle": (("blosc", {"cname": "zstd", "clevel": 1, "shuffle": "shuffle"}),),
    "blosc zstd 1 bitshuffle": (("blosc", {"cname": "zstd", "clevel": 1, "shuffle": "bitshuffle"}),),
    "blosc lz4 1 shuffle": (("blosc", {"cname": "lz4", "clevel": 1, "shuffle": "shuffle"}),),
    "none": (),
}
OURS = "blosc zstd 1 shuffle"
"""What cristae writes images with; every tool here gets it, unless it is named after another."""


def prepare(folder: Path, sizes: Mapping[str, Any]) -> None:
    stored(folder / "image.zarr", camera(sizes["shape"]), sizes["shape"], sizes["shard"], "uint16")


def measured(turn: Turn, write: Callable[[np.ndarray], None], read: Callable[[], np.ndarray]) -> Mapping[str, Any]:
    """Write the image, read it back, compare; MB/s of voxels, not of what is stored."""
    image = loaded(turn.inputs / "image.zarr")
    with turn.clock("write"):
        write(image)
    with turn.clock("read"):
        back = read()
    if not np.array_equal(back, image):
        raise AssertionError("what was read is not what was written")
    size = sum(p.stat().st_size for p in turn.folder.rglob("*") if p.is_file())
    spent = {k: [turn.figures[f"{act}_{k}"] for act in ("write", "read")] for k in WORDS}
    rates = {f"{act}_mb_s": image.nbytes / 1e6 / s for act, s in zip(("write", "read"), spent["wall_s"], strict=True)}
    both = {k: (sum if k.endswith("_s") else max)(figures) for k, figures in spent.items()}
    return {**both, **rates, "stored_share": size / image.nbytes}


def cristae(turn: Turn, durable: bool) -> Mapping[str, Any]:
    """As a run does it: whole shards, two threads, every object checked."""
    from cristae.grid import BlockGrid, Box
    from cristae.store.create import create_volume

    if not durable:
        os.fsync = _at_once
    shape, chunk, shard = (tuple(turn.sizes[k]) for k in ("shape", "chunk", "shard"))
    volume = create_volume(
        turn.folder / "made.zarr", axes="zyx", shape=shape, dtype="uint16", voxel_um=VOXEL_UM, chunk=chunk, shard=shard
    )
    boxes = list(BlockGrid(shape, shard))

    def write(image: np.ndarray) -> None:
        each(lambda box: volume.write(box, image[box.slices]), boxes)

    def read() -> np.ndarray:
        out = np.empty(shape, np.uint16)

        def one(box: Box) -> None:
            volume.read(box, out=out[box.slices])

        each(one, boxes)
        return out

    return measured(turn, write, read)


def _at_once(fd: Any) -> None:
    """In place of os.fsync."""


def zarr_python(
    turn: Turn,
    *,
    codec: str = OURS,
    blocks: bool = False,
    durable: bool = False,
    fill_test: bool = True,
    rust: bool = False,
) -> Mapping[str, Any]:
    """The whole array in one assignment, or shard by shard on two threads."""
    import zarr

    if rust:
        zarr.config.set({"codec_pipeline.path": "zarrs.ZarrsCodecPipeline"})
    if not fill_test:
        zarr.config.set({"array.write_empty_chunks": True})
    array, path = created(turn, codec), turn.folder / "made.zarr"
    parts = list(shards(turn)) if blocks else [tuple(slice(0, n) for n in array.shape)]

    def write(image: np.ndarray) -> None:
        each(lambda part: array.__setitem__(part, image[part]), parts)
        if durable:
            sync(path)

    def read() -> np.ndarray:
        if not blocks:
            return np.asarray(array[:])
        out = np.empty(array.shape, np.uint16)
        each(lambda part: out.__setitem__(part, array[part]), parts)
        return out

    return measured(turn, write, read)


def tensorstore(turn: Turn) -> Mapping[str, Any]:
    """Into the same metadata as zarr-python writes, on two threads."""
    import tensorstore as ts

    created(turn, OURS)
    place = {"driver": "zarr3", "kvstore": {"driver": "file", "path": str(turn.folder / "made.zarr")}}
    store = ts.open({**place, "context": {"data_copy_concurrency": {"limit": 2}}}).result()
    return measured(turn, lambda image: store.write(image).result(), lambda: np.asarray(store.read().result()))


def created(turn: Turn, codec: str) -> Any:
    import zarr
    from zarr.codecs import BloscCodec, Crc32cCodec, ZstdCodec

    made: Mapping[str, Any] = {"zstd": ZstdCodec, "blosc": partial(BloscCodec, typesize=2)}
    chain = [made[name](**words) for name, words in CODECS[codec]]
    return zarr.create_array(
        turn.folder / "made.zarr",
        shape=tuple(turn.sizes["shape"]),
        chunks=tuple(turn.sizes["chunk"]),
        shards=tuple(turn.sizes["shard"]),
        dtype="uint16",
        compressors=[*chain, Crc32cCodec()],
    )


def shards(turn: Turn) -> Iterator[Index]:
    spans = [
        [slice(a, min(a + s, n)) for a in range(0, n, s)]
        for n, s in zip(turn.sizes["shape"], turn.sizes["shard"], strict=True)
    ]
    return product(*spans)


def each(act: Callable[[Any], Any], parts: list[Any]) -> None:
    with ThreadPoolExecutor(2) as threads:
        list(threads.map(act, parts))


def sync(root: Path) -> None:
    """Wait until every file and folder is on the disk."""
    for path in [root, *root.rglob("*")]:
        handle = os.open(path, os.O_RDONLY)
        os.fsync(handle)
        os.close(handle)


def with_codec(codec: str) -> Tool:
    run = partial(zarr_python, codec=codec, blocks=True, fill_test=False)
    return Tool(f"codec {codec}", run, packages=PACKAGES, flag="codecs")


PACKAGES = ("cristae", "zarr", "numcodecs")
PEERS = ("zarr-python", "zarr-python, 2 threads", "no fill test", "zarrs", "zarrs, 2 threads", "tensorstore")

QUESTION = Question(
    "zarr_io",
    "Write and read 1 GiB of camera-like uint16, sharded and checksummed",
    full={"shape": (256, 1024, 2048), "chunk": (32, 128, 128), "shard": (64, 256, 256)},
    small={"shape": (32, 128, 256), "chunk": (16, 32, 32), "shard": (32, 64, 64)},
    prepare=prepare,
    tools=(
        Tool("cristae", partial(cristae, durable=False), packages=PACKAGES),
        Tool("cristae, durable", partial(cristae, durable=True), packages=PACKAGES),
        Tool("zarr-python", zarr_python, packages=PACKAGES),
        Tool("zarr-python, durable", partial(zarr_python, durable=True), packages=PACKAGES),
        Tool("zarr-python, 2 threads", partial(zarr_python, blocks=True), packages=PACKAGES),
        Tool("no fill test", partial(zarr_python, fill_test=False), packages=PACKAGES),
        Tool("zarrs", partial(zarr_python, rust=True), ("zarrs",), "zarrs", (*PACKAGES, "zarrs")),
        Tool(
            "zarrs, 2 threads", partial(zarr_python, rust=True, blocks=True), ("zarrs",), "zarrs", (*PACKAGES, "zarrs")
        ),
        Tool("tensorstore", tensorstore, ("tensorstore",), "tensorstore", (*PACKAGES, "tensorstore")),
        *map(with_codec, CODECS),
    ),
    targets=(
        Target("write_mb_s", "cristae", ("zarr-python",), at_least=1.7),
        Target("write_mb_s", "cristae, durable", ("zarr-python, durable",), at_least=1.7),
        Target("read_mb_s", "cristae", PEERS, at_least=0.85),
    ),
    notes=(
        f"Every tool writes {OURS} and crc32c in the same chunks and shards; cristae without fsync is cristae with "
        "os.fsync made idle. --codecs compares the codecs, written shard by shard without the fill test."
    ),
)

if __name__ == "__main__":
    ask(QUESTION)
