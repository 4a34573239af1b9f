"""Inference: a trained network, or a function of one's own, over a volume of any size; nobody can find its tiles in the result.

    tiles           where tiles lie, and what each of their voxels counts: integers and weights
    blend           tiles become one result, the same whoever asks; what neighbours share is kept for a while
    batches         tiles that are computed together, each by one thread, as many as fit
    card            a model file, and what it says of itself
    named           the models that come with cristae
    unet            a small network that sees a finite way, and how far
    network         networks by name; save, load, compute
    process         what torch is told of the process: one thread, and how memory is taken
    normalisation   two numbers for a whole frame
    appearance      what a tile looks like to a network, in some thirty numbers
    familiarity     how far an image is from a model's training images
    segment         the step that runs a model
    adapter         the step that runs a Python function
    instances       objects that a function finds in tiles become objects of the volume
    matching        which objects of two tiles that overlap are one
    examples        an image and its labels become crops to learn from
    losses          what a network is to make small
    learning        a network, its optimiser and the mean of its weights, which takes steps and can be put away
    training        epochs until the recipe says enough, and on from where it was killed

torch is imported where a network computes or learns, and nowhere else: a plan needs only the card.
"""

from collections.abc import Callable, Mapping

from cristae.blocks.stage import Stage
from cristae.inference.adapter import python
from cristae.inference.card import Card, read_card
from cristae.inference.named import model_path, models
from cristae.inference.network import build_network, card_of, load_model, save_model
from cristae.inference.segment import segment

__all__ = [
    "STAGES",
    "Card",
    "build_network",
    "card_of",
    "load_model",
    "model_path",
    "models",
    "python",
    "read_card",
    "save_model",
    "segment",
]

STAGES: Mapping[str, Callable[..., Stage]] = {"python": python, "segment": segment}
"""Stages a pipeline may name; every builder takes the user's parameters and keyword-only `voxel_um`."""
