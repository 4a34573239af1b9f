"""Measure: a pure function from a block to a partial result, and how partial results become one answer.

    Partial   a dictionary of arrays; what one block knows
    merge     partials -> partial; associative, commutative, and merge([]) is the neutral element
    finish    partial -> answer, again a dictionary of arrays (0-d for a number); finish(partial, answers) where it asks
    Answer    the finished arrays, and the partials of single blocks where a later step looks them up

The scope says over what partials are merged: each `frame` (one time point of one image), each `image`, or the whole
`collection`; never across channels. A measure may itself ask for answers first: that makes a round.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np

from cristae.blocks.stage import Cost
from cristae.grid import Halo

Partial = dict[str, np.ndarray]
Scope = Literal["frame", "image", "collection"]


@dataclass(frozen=True)
class Answer:
    """A frozen global answer. `parts` maps a block number to that block's partial, for measures that keep them."""

    arrays: Mapping[str, np.ndarray]
    parts: Mapping[int, Partial] = field(default_factory=dict)

    def number(self, name: str) -> Any:
        """The 0-d array `name` as a Python number."""
        return self.arrays[name].item()


@dataclass(frozen=True)
class Measure:
    """A frozen, picklable fact, like a Stage.

    partial(*arrays, at, answers) describes the core `at.out`; the arrays reach `halo` further (clipped to the volume).
    merge(partials) and finish(partial) know nothing of blocks. `finish` is None where the merge is the answer, as of tables, whose rows
    are finished in ranges of label by the one who asked; where it has a method `ready`, the driver calls that beforehand, beside
    the first blocks.
    """

    name: str
    params: Mapping[str, Any]
    partial: Callable[..., Partial]
    merge: Callable[[Sequence[Partial]], Partial]
    finish: Callable[..., Partial] | None
    halo: Halo
    scope: Scope = "frame"
    cost: Cost = Cost()
    asks: Mapping[str, Measure] = field(default_factory=dict)
    keeps_parts: bool = False  # partials of single blocks stay readable through Answer.parts
    reads_array: bool = True  # False: works on the parts of what it asks for, and no voxel is read
    tolerance: float = 0.0


def ask(measure: Measure, *arrays: Any) -> Answer:
    """The answer on whole arrays in memory: one block, one partial, finished."""
    from cristae.blocks.evaluate import answer_whole

    return answer_whole(measure, arrays)
