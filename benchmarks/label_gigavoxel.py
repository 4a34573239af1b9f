"""Label, 1 Gvoxel: does labelling block by block stay near one pass in memory, at a fraction of its memory?"""

from __future__ import annotations

from _engine import UP
from label import PEERS, prepare
from measuring import Question, Target, ask

QUESTION = Question(
    "label_gigavoxel",
    "Label a bool mask, 26-connected, 256 x 2048 x 2048, Zarr to Zarr on two processes",
    full={"shape": (256, 2048, 2048), "chunk": (64, 256, 256)},
    small={"shape": (32, 192, 192), "chunk": (16, 64, 64)},
    prepare=prepare,
    tools=PEERS,
    targets=(
        Target("wall_s", "cristae", ("cc3d in memory",), at_most=2),
        Target("cpu_s", "cristae", ("cc3d in memory",), at_most=3.5),
        Target("peak_mb", "cristae", ("cc3d in memory",), at_most=0.3),
    ),
    agree={"objects": 0, "labels": 0},
    notes=f"{UP}; tools in memory have the mask loaded before it.",
)

if __name__ == "__main__":
    ask(QUESTION)
