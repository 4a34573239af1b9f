"""Scenes: which image of a file that holds several is meant, and what it is called."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

from cristae.errors import InvalidInput, SeveralScenes


def chosen(path: Path, scenes: Sequence[str], wanted: str | None) -> int:
    """Number of the scene that is meant, by its name or number; may be left out where there is one.

    Raises
    ------
    SeveralScenes : if there are several and none is named.
    InvalidInput : if there is none, or none of that name; the message names those there are.
    """
    if not scenes:
        raise InvalidInput(f"{path} holds no image")
    if wanted is None and len(scenes) == 1:
        return 0
    if wanted is not None and wanted in scenes:
        return list(scenes).index(wanted)
    if wanted is not None and wanted.isdecimal() and int(wanted) < len(scenes):
        return int(wanted)
    if len(scenes) == 1:
        raise InvalidInput(f"{path} holds one image, and no scene {wanted!r}; leave the scene out")
    known = ", ".join(f"{n} ({scene})" for n, scene in list(enumerate(scenes))[:12])
    more = f" and {len(scenes) - 12} more" if len(scenes) > 12 else ""
    if wanted is None:
        message = f"{path} holds {len(scenes)} scenes: {known}{more}; choose one with --scene"
        raise SeveralScenes(message, tuple(scenes))
    raise InvalidInput(f"{path} has no scene {wanted!r}; it has {known}{more}")


def named(name: str, scenes: Sequence[str], number: int) -> str:
    """An image's name: the file's, and where there are several scenes that of the scene, if it can stand in a path."""
    if len(scenes) == 1:
        return name
    scene = scenes[number]
    plain = re.fullmatch(r"[\w.-]+", scene) is not None and list(scenes).count(scene) == 1
    return f"{name}-{scene if plain else number}"
