"""Truths: what a table says of true objects, such as their brightness or radius, to ask which of them were found.

A table has a row an object: `label`, `t` where there are several time points, `image` where there are several images, as the tables of
`simulate`, `run` and `measure` have them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from cristae.errors import InvalidConfiguration, InvalidInput
from cristae.evaluation.scores import Column
from cristae.pipeline.document import nearest
from cristae.store.volume import Volume

if TYPE_CHECKING:
    import polars


@dataclass(frozen=True)
class TruthColumn:
    """A column of a table that is known to hold it."""

    path: str
    name: str
    images: tuple[str, ...]

    def read(self, renamed: Sequence[str]) -> Column:
        """Labels in rising order and their values, of each image and time point; images are called by `renamed`, in the same order."""
        table = _table(self.path)
        alone = len(self.images) == 1 and ("image" not in table.columns or table["image"].n_unique() == 1)
        image = np.full(len(table), self.images[0]) if alone else table["image"].to_numpy()
        t = table["t"].to_numpy() if "t" in table.columns else np.zeros(len(table), np.int64)
        values = table[self.name]
        shown = values.to_numpy() if values.dtype.is_numeric() else np.array([v or "" for v in values.cast(str)], str)
        labels = table["label"].to_numpy().astype(np.uint64)
        found: dict[tuple[str, int], tuple[np.ndarray, np.ndarray]] = {}
        for name, called in zip(self.images, renamed, strict=True):
            for point in np.unique(t).tolist():
                rows = np.flatnonzero((image == name) & (t == point))
                rows = rows[np.argsort(labels[rows])]
                found[called, int(point)] = labels[rows], shown[rows]
        return self.name, found


def truth_column(path: str, name: str, images: Sequence[str]) -> TruthColumn:
    """A column of the table at `path`; of several images, those of these names.

    Raises
    ------
    InvalidInput : if the table cannot be read, or lacks the labels or the images.
    InvalidConfiguration : if it has no such column.
    """
    table = _table(path)
    if name not in table.columns:
        raise InvalidConfiguration(f"--by {name}: {path} has no such column; {nearest(name, table.columns, 'it has')}")
    if "label" not in table.columns or not table["label"].dtype.is_integer():
        raise InvalidInput(
            f"{path} has no column label with the number of each object, so nobody knows whose {name} is meant"
        )
    if len(images) > 1 and "image" not in table.columns:
        raise InvalidInput(
            f"{path} has no column image, so nobody knows in which of the {len(images)} images a label is"
        )
    if "image" in table.columns:
        named = sorted(set(table["image"].cast(str).to_list()))
        lacking = [image for image in images if image not in named]
        if lacking and len({*images, *named}) > 2:  # a store that was renamed is still that of its own table
            raise InvalidInput(
                f"{path} has no row of image {lacking[0]}; its column image names {', '.join(named[:3])}{', ...' if len(named) > 3 else ''}: "
                "give the table of the truth that is scored"
            )
    return TruthColumn(path, name, tuple(images))


def table_beside(volumes: Sequence[Volume]) -> str:
    """The table of labels that lie in their image's store, as `simulate` and `run` leave it.

    Raises
    ------
    InvalidConfiguration : if there is none, or there are several.
    """
    found = [Path(v.path).parent.parent / "tables" / str(v.label) / "table.parquet" for v in volumes if v.label]
    if len(volumes) == 1 and found and found[0].exists():
        return str(found[0])
    raise InvalidConfiguration(
        "--by asks for a column of a table of true objects, and none lies beside the truth; name it with --table"
    )


def _table(path: str) -> polars.DataFrame:
    import polars

    try:
        return polars.read_parquet(path) if path.endswith(".parquet") else polars.read_csv(path)
    except (OSError, polars.exceptions.PolarsError) as error:
        first = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise InvalidInput(f"the table {path} cannot be read: {first}") from None
