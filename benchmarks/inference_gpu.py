"""Inference on a GPU: tiles a second of `segment` and of the network alone, tile by tile, in batches and in mixed precision; how busy
the card is, and whether CPU and GPU agree.

    python benchmarks/inference_gpu.py [--results FILE]

Where no GPU answers it says "not measured" and writes nothing.
"""

from __future__ import annotations

import argparse
import json
import platform
import statistics
import subprocess
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from cristae.inference import batches, build_network, card_of, load_model, save_model, segment
from cristae.inference.blend import HELD
from cristae.inference.tiles import Tiling
from cristae.inference.unet import hyper_of

CASES = {
    "2D, 0.5 M weights, 2048 x 2048 in tiles of 256": ((0.08, 0.08), (16, 32, 64, 128), (2048, 2048), (256, 256)),
    "3D, 1.1 M weights, 64 x 512 x 512 in tiles of 32 x 128 x 128": (
        (0.2, 0.1, 0.1),
        (16, 32, 64, 96),
        (64, 512, 512),
        (32, 128, 128),
    ),
}
REPEAT = 5


def main() -> None:
    words = argparse.ArgumentParser()
    words.add_argument("--results", type=Path)
    given = words.parse_args()
    try:
        import cupy
        import torch

        if not torch.cuda.is_available():
            raise ImportError
    except ImportError:
        print("not measured: there is no GPU, or cupy or torch is not installed")
        return
    found: dict[str, Any] = {
        "device": torch.cuda.get_device_name(0),
        "torch": torch.__version__,
        "cupy": cupy.__version__,
        "python": platform.python_version(),
        "repeat": REPEAT,
        "cases": {name: case(*facts) for name, facts in CASES.items()},
    }
    print(json.dumps(found, indent=1))
    if given.results:
        given.results.write_text(json.dumps(found, indent=1) + "\n")


def case(voxel_um: tuple[float, ...], features: tuple[int, ...], shape: tuple[int, ...], tile: tuple[int, ...]) -> Any:
    """One network: the stage and the bare network in turn, over as many tiles."""
    import cupy
    import torch

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "model.safetensors"
        torch.manual_seed(1)
        hyper = hyper_of(voxel_um, features)
        save_model(
            path, build_network("unet", hyper, len(voxel_um)), card_of("unet", hyper, voxel_um=voxel_um, classes=("a",))
        )
        single, mixed = (
            segment(model=str(path), voxel_um=voxel_um, tile=tile, precision=word) for word in ("single", "mixed")
        )
        network = load_model(path, device="cuda")
        load_model(path)  # kept, for the comparison with the CPU
    tiles, size = Tiling(tile).count(shape), network.at_once(tile)
    image = np.random.default_rng(1).random(shape, np.float32)
    there = cupy.asarray(image)
    crop = torch.from_numpy(image[tuple(slice(0, t) for t in tile)])[None, None].cuda()

    def alone(size: int) -> None:
        batch = crop.expand(size, *crop.shape[1:]).contiguous()
        with torch.inference_mode():
            for _ in range(0, tiles, size):
                network.module(batch).sigmoid()
        torch.cuda.synchronize()

    def whole(stage: Any) -> Any:
        HELD.clear()
        out = stage(there)
        cupy.cuda.Device().synchronize()
        return out

    def one_by_one() -> None:
        room = batches.ROOM["cuda"]
        batches.ROOM["cuda"] = 0
        whole(single)
        batches.ROOM["cuda"] = room

    acts: dict[str, Callable[[], Any]] = {
        "network alone, tile by tile": lambda: alone(1),
        "network alone, in batches": lambda: alone(size),
        "segment, tile by tile": one_by_one,
        "segment": lambda: whole(single),
        "segment, mixed": lambda: whole(mixed),
    }
    seconds: dict[str, list[float]] = {name: [] for name in acts}
    busy: dict[str, list[float]] = {name: [] for name in acts}
    for act in acts.values():
        act()
    for _ in range(REPEAT):
        for name, act in acts.items():
            with watched(busy[name]):
                seconds[name].append(timed(act))
    small = image[tuple(slice(0, 3 * t // 2) for t in tile)]
    host = single(small)
    apart = {
        word: float(np.abs(stage(cupy.asarray(small)).get() - host).max())
        for word, stage in (("single", single), ("mixed", mixed))
    }
    rates = {name: tiles / statistics.median(some) for name, some in seconds.items()}
    assert whole(single).shape == shape and network.at_once(tile) == size, "a batch did not fit"
    return {
        "tiles": tiles,
        "at_once": size,
        "tiles_per_s": rates,
        "of_the_network_alone": rates["segment"] / rates["network alone, in batches"],
        "busy_percent": {name: statistics.mean(some) for name, some in busy.items() if some},
        "cpu_gpu_apart": apart,
    }


def timed(act: Callable[[], Any]) -> float:
    start = time.perf_counter()
    act()
    return time.perf_counter() - start


@contextmanager
def watched(readings: list[float]) -> Iterator[None]:
    """How busy the card is, in percent, several times a second."""
    done = threading.Event()

    def look() -> None:
        while not done.wait(0.2):
            said = subprocess.run(
                ["nvidia-smi", "--query-gpu=utilization.gpu", "--format=csv,noheader,nounits"],
                capture_output=True,
                text=True,
            ).stdout
            readings.extend(float(line) for line in said.split() if line.strip().isdigit())

    thread = threading.Thread(target=look)
    thread.start()
    try:
        yield
    finally:
        done.set()
        thread.join()


if __name__ == "__main__":
    main()
