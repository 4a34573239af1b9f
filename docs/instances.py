"""The table of docs/instances.md: how well touching tubes come apart, each way beside the others on the same simulated cells.

python docs/instances.py                         a stand-in for a network: the truth, blurred and noisy, with dips at contacts
python docs/instances.py --model mito.safetensors    a network of your own
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Mapping

import numpy as np
from scipy import ndimage

from cristae.blocks.measure import ask
from cristae.draws import fold
from cristae.evaluation.figures import added
from cristae.evaluation.objects import Rules, found_objects, object_figures
from cristae.evaluation.overlap import Table, overlaps
from cristae.filters import ridge, threshold
from cristae.grid import Box
from cristae.inference import segment
from cristae.labels import label, split
from cristae.simulation.camera import expose
from cristae.simulation.cells import Scene
from cristae.simulation.exposure import camera_of, photons
from cristae.simulation.solid import painted

SHAPE, VOXEL_UM = (32, 256, 256), (0.2, 0.1, 0.1)
SBR = 3.0
E26 = np.ones((3, 3, 3), bool)


def scene(seed: int) -> tuple[np.ndarray, np.ndarray]:
    """An image of touching mitochondria whose brightest hundredth is SBR times as bright as the ground, and its truth."""
    made = Scene("cell-epi", SHAPE, seed, contacts=0.5)
    box, ground = Box.whole(SHAPE), made.facts["camera"]["background"]
    light = photons(made, "mito", box)
    truth = painted(made, made.meeting("mito", *made.um(box)), box)
    bright, dim = np.percentile(light[truth > 0], 99), np.median(light[truth == 0])
    light *= (SBR - 1) * ground / (bright - SBR * dim)
    keys = fold(seed, "noise", "mito", 0), fold(seed, "camera")
    return expose(light, camera_of(made), box, SHAPE, *keys), truth


def stand_in(truth: np.ndarray, seed: int) -> np.ndarray:
    """A probability that is sharp, uneven, and lower where a voxel has a neighbour in another object."""
    rng = np.random.default_rng(seed)
    logit = 10 * (ndimage.gaussian_filter((truth > 0).astype(float), (0.5, 1, 1)) - 0.45)
    logit += 2 * ndimage.gaussian_filter(rng.normal(size=truth.shape), (0.7, 1, 1))
    least = ndimage.minimum_filter(np.where(truth > 0, truth, 2**31), 3)
    logit -= 2.0 * ((ndimage.maximum_filter(truth, 3) != least) & (least < 2**31))
    return (1 / (1 + np.exp(-logit))).astype(np.float32)


def ways() -> Mapping[str, tuple[str, Callable[[np.ndarray], np.ndarray]]]:
    """What labels are made of, and how."""
    tubes = ridge(voxel_um=VOXEL_UM, radius_um={"min": 0.15, "max": 0.4, "scales": 5})
    bright = threshold(method="otsu", voxel_um=VOXEL_UM, dtype="uint16")
    likely = threshold(method="otsu", voxel_um=VOXEL_UM, dtype="float32")
    whole = label(voxel_um=VOXEL_UM, min_voxels=10)
    parts = label(voxel_um=VOXEL_UM, min_voxels=10, multilabel=True)
    found: dict[str, tuple[str, Callable[[np.ndarray], np.ndarray]]] = {
        "otsu, label": ("image", lambda a: whole(bright(a))),
        "ridge, otsu, label": ("image", lambda a: whole(likely(tubes(a)))),
        "threshold 0.5, label": ("chance", lambda p: whole(p > 0.5)),
    }
    for apart in (0.4, 1.0):
        far = split(voxel_um=VOXEL_UM, min_separation_um=apart)
        found[f"threshold 0.5, split by distance, {apart}"] = ("chance", lambda p, far=far: parts(far(p > 0.5)))
    for reach, depth in ((0.2, 0.08), (0.3, 0.06), (0.3, 0.08), (0.3, 0.1), (0.3, 0.12)):
        deep = split(voxel_um=VOXEL_UM, by="probability", reach_um=reach, depth_um=depth)
        found[f"split by probability, reach {reach}, depth {depth}"] = ("chance", lambda p, deep=deep: parts(deep(p)))
    return found


def main() -> None:
    asked = argparse.ArgumentParser(description=__doc__)
    asked.add_argument("--model")
    asked.add_argument("--seeds", type=int, default=6)
    given = asked.parse_args()
    network = segment(model=given.model, voxel_um=VOXEL_UM, dtype="uint16") if given.model else None
    counts: dict[str, list[Mapping[str, float]]] = {}
    rules = Rules()
    for seed in range(1, given.seeds + 1):
        image, truth = scene(seed)
        shown = {"image": image, "chance": network(image) if network else stand_in(truth, seed)}
        for name, (what, way) in ways().items():
            table = Table.of(ask(overlaps(ndim=3), way(shown[what]), truth).arrays)
            counts.setdefault(name, []).append(found_objects(table, rules).counts)
    print("| way | PQ | SQ | RQ | objects | of | splits | merges |\n|---|---|---|---|---|---|---|---|")
    for name, several in counts.items():
        total = added(several)
        figures = object_figures(total, rules)
        said = [f"{figures[key]:.3f}" for key in ("pq", "sq", "rq")]
        said += [f"{total[key]:.0f}" for key in ("predictions", "truths", "splits", "merges")]
        print(f"| {name} | {' | '.join(said)} |")


if __name__ == "__main__":
    main()
