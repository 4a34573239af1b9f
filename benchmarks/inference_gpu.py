"""Inference on a GPU: tiles a second of `segment` and of the network alone, how busy the card is, and whether CPU and GPU agree.

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

from cristae.inference import build_network, card_of, load_model, save_model, segment
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
    """One network: the stage and the bare network in turn, over the same tiles."""
    import cupy
    import torch

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "model.safetensors"
        torch.manual_seed(1)
        hyper = hyper_of(voxel_um, features)
        save_model(
            path, build_network("unet", hyper, len(voxel_um)), card_of("unet", hyper, voxel_um=voxel_um, classes=("a",))
        )
        stage = segment(model=str(path), voxel_um=voxel_um, tile=tile)
        network = load_model(path, device="cuda")
        load_model(path)  # kept, for the comparison with the CPU
    tiles = Tiling(tile).count(shape)
    image = np.random.default_rng(1).random(shape, np.float32)
    there = cupy.asarray(image)
    crop = torch.from_numpy(image[tuple(slice(0, t) for t in tile)])[None, None].cuda()

    def alone() -> None:
        with torch.inference_mode():
            for _ in range(tiles):
                network.module(crop).sigmoid()
        torch.cuda.synchronize()

    def whole() -> Any:
        HELD.clear()
        out = stage(there)
        cupy.cuda.Device().synchronize()
        return out

    seconds: dict[str, list[float]] = {"network alone": [], "segment": []}
    busy: list[float] = []
    alone()
    device = whole()
    for _ in range(REPEAT):
        for name, act in (("network alone", alone), ("segment", whole)):
            with watched(busy if name == "segment" else []):
                seconds[name].append(timed(act))
    small = image[tuple(slice(0, 3 * t // 2) for t in tile)]
    host = stage(small)
    apart = float(np.abs(stage(cupy.asarray(small)).get() - host).max())
    rates = {name: tiles / statistics.median(some) for name, some in seconds.items()}
    assert device.shape == shape
    return {
        "tiles": tiles,
        "tiles_per_s": rates,
        "of_the_network_alone": rates["segment"] / rates["network alone"],
        "busy_percent": statistics.mean(busy) if busy else None,
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
