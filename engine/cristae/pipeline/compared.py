"""Compared: the scores of several evaluations side by side: classes of one prediction, or predictions of one truth."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cristae.errors import InvalidConfiguration, InvalidInput
from cristae.evaluation.scores import Kind
from cristae.pipeline.document import nearest
from cristae.pipeline.evaluating import beside


@dataclass(frozen=True, eq=False)
class Compared:
    """A row an evaluation, a column a figure; means over images, which of one image are its scores. NaN where one has no such figure."""

    rows: tuple[str, ...]
    images: tuple[int, ...]  # images or time points of each
    figures: tuple[str, ...]
    values: NDArray[np.float64]

    @property
    def scores(self) -> list[bool]:
        """Which figures go from 0 to 1, the best."""
        known = Kind(3, with_topology=True).figures
        return [name.startswith("ap_") or (name in known and known[name].best == 1.0) for name in self.figures]


def compared(files: Sequence[str], figures: Sequence[str] | None = None) -> Compared:
    """What `evaluate --out` kept in several files, by the names of the files.

    figures : of those only, in this order; by default all that count nothing, and of average precision the mean

    Raises
    ------
    InvalidInput : if a file holds no scores.
    InvalidConfiguration : if a figure is in none of them.
    """
    found = [_read(Path(file)) for file in files]
    every = list(dict.fromkeys(name for one in found for name in one["figures"]))
    if figures is None:
        known = Kind(3, with_topology=True).figures
        names = [
            n for n in every if not (n in known and known[n].count) and (n == "ap_mean" or not n.startswith("ap_"))
        ]
    else:
        names = list(dict.fromkeys(figures))
        if unknown := next((name for name in names if name not in every), None):
            raise InvalidConfiguration(f"there is no figure {unknown} in these scores; {nearest(unknown, every)}")
    values = [[one["mean"].get(name, {}).get("mean") for name in names] for one in found]
    return Compared(
        tuple(_names([Path(file) for file in files])),
        tuple(len(one["images"]) for one in found),
        tuple(names),
        np.array(values, np.float64).reshape(len(found), len(names)),
    )


def _read(path: Path) -> Any:
    if path.suffix == ".csv":
        path = beside(path)
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
        whole = {"figures", "mean", "images"} <= set(found)
    except OSError as error:
        raise InvalidInput(f"{path} cannot be read: {error.strerror}") from None
    except (ValueError, TypeError):
        whole = False
    if not whole:
        raise InvalidInput(f"{path} holds no scores; give what cristae evaluate --out SCORES.json wrote")
    return found


def _names(paths: Sequence[Path]) -> list[str]:
    """The files' names, with as many of the folders above as tell them apart."""
    for above in range(1, max(len(path.absolute().parts) for path in paths) + 1):
        names = ["/".join(path.absolute().with_suffix("").parts[-above:]) for path in paths]
        if len(set(names)) == len(names):
            return names
    return [str(path) for path in paths]
