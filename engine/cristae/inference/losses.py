"""Losses: what a network is to make small, by name. Dice counts overlap, so that thin things on much ground weigh as much as it.

All are MONAI's (https://monai.io), which is imported when a network is trained.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

Loss = Callable[[Any, Any], Any]
"""Logits and masks, (batch, classes, *space) both, to a number."""

SKELETON = 8
"""Steps of the soft skeleton; as many as the widest object's radius in voxels, or the skeleton is no line."""


def dice_focal(softmax: bool) -> Loss:
    """Dice + focal with gamma 2, as PhySeg has it (Sekh et al., 2021)."""
    from monai.losses import DiceFocalLoss

    found: Loss = DiceFocalLoss(sigmoid=not softmax, softmax=softmax, batch=True, gamma=2.0)
    return found


def dice_ce(softmax: bool) -> Loss:
    """Dice + cross-entropy, as nnU-Net has it (Isensee et al., 2021)."""
    from monai.losses import DiceLoss
    from torch.nn import functional

    dice = DiceLoss(sigmoid=not softmax, softmax=softmax, batch=True)

    def both(logits: Any, masks: Any) -> Any:
        if softmax:
            return dice(logits, masks) + functional.cross_entropy(logits, masks)
        return dice(logits, masks) + functional.binary_cross_entropy_with_logits(logits, masks)

    return both


def dice_cldice(softmax: bool) -> Loss:
    """Dice + focal + half of soft clDice, which minds breaks in thin things (Shit et al., CVPR 2021, doi:10.1109/CVPR46437.2021.01629)."""
    from monai.losses import SoftclDiceLoss

    whole, lines = dice_focal(softmax), SoftclDiceLoss(iter_=SKELETON)

    def both(logits: Any, masks: Any) -> Any:
        probabilities = logits.softmax(1)[:, 1:] if softmax else logits.sigmoid()
        return whole(logits, masks) + 0.5 * lines(masks[:, 1:] if softmax else masks, probabilities)

    return both


LOSSES: Mapping[str, Callable[[bool], Loss]] = {
    "dice_focal": dice_focal,
    "dice_ce": dice_ce,
    "dice_cldice": dice_cldice,
}
