"""Training: how many examples a second does a small U-Net learn from, simulated on the fly and read from disk?"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from measuring import Question, Target, Tool, Turn, ask


def prepare(folder: Path, sizes: Mapping[str, Any]) -> None:
    """The frames and masks of as many lessons as are learned from, stored as an .npz."""
    images, masks = [], []
    lessons = course(sizes).lessons.lessons
    for k in range(sizes["lessons"]):
        last = None
        for frame, labels, _ in lessons(k):
            if frame is not last and frame.shape == (256, 256):
                last = frame
                images.append(frame.astype(np.float32))
                masks.append((labels != 0).astype(np.uint8))
    np.savez(folder / "frames.npz", image=np.stack(images), mask=np.stack(masks))


def course(sizes: Mapping[str, Any]) -> Any:
    from cristae.pipeline.course import load_course

    changes = [f"data.simulate.{name}={number}" for name, number in sizes.items()]
    return load_course("mito-2d", [*changes, "data.simulate.exam=1", "recipe.epochs=3"], preset=True)


def learn(turn: Turn, simulated: bool) -> Mapping[str, Any]:
    """Three epochs, of which the second is timed: by then kernels are loaded and processes there, and the examples of the third are made."""
    from cristae.inference.training import fit
    from cristae.pipeline.sources import Picture, Pictures, count_of
    from cristae.pipeline.training import where

    plan = course(turn.sizes)
    source: Any = plan.lessons
    lessons = plan.lessons.lessons
    if not simulated:
        path = str(turn.inputs / "frames.npz")
        pictures = tuple(Picture(path, path, str(n), plan.card.voxel_um, number=n) for n in range(count_of(path)))
        each = plan.lessons.chunks * lessons.exposures * lessons.crops // len(pictures)
        source = Pictures(pictures, plan.card, lessons.crop, each, plan.lessons.variety)
    exam = replace(plan.exam, lessons=replace(plan.exam.lessons, exposures=1, crops=1))
    told: list[dict[str, Any]] = []

    place = where(plan, None, None, "cpu")
    with turn.clock():
        fit(
            plan.card,
            plan.recipe,
            source,
            exam,
            turn.folder,
            listen=told.append,
            workers=place.workers,
            threads=place.threads,
        )
    return {"examples_per_s": told[1]["examples"] / told[1]["seconds"], "examples": told[1]["examples"]}


OURS = ("cristae", "torch", "monai")

QUESTION = Question(
    "training",
    "A U-Net of 0.5 million weights learns from crops of 128 x 128, batches of 32; the second epoch of three",
    full={"lessons": 4},
    small={"lessons": 1, "exposures": 2, "crops": 8},
    prepare=prepare,
    tools=(
        Tool("on the fly", partial(learn, simulated=True), packages=OURS),
        Tool("from disk", partial(learn, simulated=False), packages=OURS),
    ),
    targets=(Target("examples_per_s", "on the fly", ("from disk",), at_least=0.8),),
    notes=(
        "On the fly one process makes scenes (course mito-2d, with as many exposures and crops as it says) while all cores learn. From disk "
        "the frames of such scenes lie in one .npz, and crops are cut and varied by the same process. CPU seconds are of all three epochs."
    ),
    repeat=3,
)

if __name__ == "__main__":
    ask(QUESTION)
