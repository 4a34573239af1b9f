"""Labels: exact connected components and basins, block by block.

    components   the stage `label`
    holes        the stage `fill_holes`
    parting      the stage `split`: objects that touch, parted between their summits
    basins       by distance or intensity, summits that are near each other being one
    saddles      by a network's probability, summits that only a shallow saddle parts being one
    flood        the stage `flood`: an image parted into the basins of its dark places
    holding      objects within others; a pipeline names it by `within:` of an object
    runs         the components of one block, as runs of voxels
    seams        what a block tells its neighbours, and which of their components touch
    union        one canonical id for every component

Compiled loops live beside them: `runs_kernel`, `seams_kernel`, `basins_kernel`, `saddles_kernel` and `flood_kernel` over voxels,
`union_kernel` over ids.
"""

from collections.abc import Callable, Mapping

from cristae.blocks.stage import Stage
from cristae.labels.components import label
from cristae.labels.flood import flood
from cristae.labels.holding import within
from cristae.labels.holes import fill_holes
from cristae.labels.parting import split

__all__ = ["STAGES", "fill_holes", "flood", "label", "split", "within"]

STAGES: Mapping[str, Callable[..., Stage]] = {
    "fill_holes": fill_holes,
    "flood": flood,
    "label": label,
    "split": split,
}
"""Stages a pipeline may name. To add one: write the function, import it, add a line here."""
