"""Labels: exact connected components, block by block.

    components   the stage `label`
    holes        the stage `fill_holes`
    holding      objects within others; a pipeline names it by `within:` of an object
    seams        what a block tells its neighbours, and which of their components touch
    union        one canonical id for every component

Compiled loops live beside them: `seams_kernel` over voxels, `union_kernel` over ids.
"""

from collections.abc import Callable, Mapping

from cristae.blocks.stage import Stage
from cristae.labels.components import label
from cristae.labels.holding import within
from cristae.labels.holes import fill_holes

__all__ = ["STAGES", "fill_holes", "label", "within"]

STAGES: Mapping[str, Callable[..., Stage]] = {
    "fill_holes": fill_holes,
    "label": label,
}
"""Stages a pipeline may name. To add one: write the function, import it, add a line here."""
