"""Seaming: which objects lie in several blocks, and how often parts of them were joined: the seam report of a run.

    crossing   objects that lie in more than one block
    parts      parts of those objects, each the piece of one block
    joined     pairs of parts in different blocks that touch, and so are one object
    contested, beyond_halo
               joins that blocks could not agree on, and objects larger than what a block looks at: 0, since components and basins are
               joined exactly; a number that is not 0 would be a seam

Counted while labels are joined, from what blocks tell of their faces; no voxel is read for it. Objects that were dropped for their
size are not counted. The numbers depend on the blocks, as labels and tables do not, and so have a file of their own.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from cristae.blocks import answers as stored
from cristae.blocks.work import Work, group_of
from cristae.store.bundle import Bundle, write_bytes

COUNTED = ("crossing", "parts", "joined")


@dataclass(frozen=True)
class Seams:
    """Writes the report; its totals are what the run says in the end."""

    object: str
    key: str

    def __call__(self, work: Work, path: Path) -> dict[str, Any]:
        bundle = Bundle(stored.answer_path(work.folder, self.key))
        frames = []
        for number, frame in work.finished():
            (counts,) = np.asarray(stored.taken(bundle, group_of("frame", frame, number))["seams"], np.int64).tolist()
            blocks = max(len(work.grid(frame.image, step)) for step in work.passes)
            about = {"image": work.images[frame.image].name, "t": frame.t, "blocks": blocks}
            frames.append({**about, **dict(zip(COUNTED, counts, strict=True)), "contested": 0, "beyond_halo": 0})
        names = ("blocks", *COUNTED, "contested", "beyond_halo")
        totals = {name: sum(frame[name] for frame in frames) for name in names}
        several = any(frame["blocks"] > 1 for frame in frames)
        document = {"object": self.object, "block": list(work.block), **totals, "frames": frames}
        write_bytes(path, (json.dumps(document, indent=1) + "\n").encode())
        return {f"seams of {self.object}": totals} if several else {}
