"""Instances: the lazy table of objects. Columns and rows are computed when asked for, and no more than asked.

Two columns of ten objects read only the blocks that those ten touch; the whole table is one pass over the blocks. The
key of a row is image, t, label; what each column means stands in `cristae.morphology.COLUMNS`.

>>> import cristae, numpy as np, polars as pl
>>> labels = np.zeros((8, 32, 32), np.uint16)
>>> labels[2:5, 2:6, 2:6], labels[1:7, 20:30, 18:30] = 1, 2
>>> cells = cristae.measure(labels, voxel_um=(0.3, 0.1, 0.1), block=(8, 16, 16))
>>> len(cells)
2
>>> print(cells.explain([1], columns=["surface_um2"]))
1 object; 1 of 4 blocks visited for surface: 0
>>> cells.rows(1, columns=["volume_um3"])["volume_um3"].round(6).to_list()
[0.144]
>>> large = cells.lazy().filter((pl.col("voxels") > 100) & (pl.col("surface_um2") > 1)).select("label", "euler_number")
>>> large.collect().rows()
[(2, 1)]
>>> cells.visits
((0, 0), (0, 3))
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from html import escape
from pathlib import Path
from threading import Lock
from typing import TYPE_CHECKING

import numpy as np
import polars as pl

from cristae.cluster.model import usable_cores
from cristae.errors import InvalidConfiguration
from cristae.grid import BlockGrid, Box, Shape
from cristae.morphology import COLUMNS
from cristae.morphology.columns import KEY
from cristae.morphology.planning import (
    Census,
    Ids,
    Place,
    Scene,
    Visit,
    Wanted,
    block_shape,
    columns_of,
    index_part,
    parts_of,
    plan_visit,
)
from cristae.morphology.predicates import candidates
from cristae.morphology.sources import Given, cropped, image_of, labels_of
from cristae.morphology.visiting import (
    Table,
    finished,
    frame_of,
    piece_frame,
    pieces,
    read_rows,
    schema_of,
    tables,
)

if TYPE_CHECKING:
    import dask.dataframe
    import pandas
    import pyarrow
    import xarray

Names = str | Iterable[str] | None


def measure(
    labels: Given,
    image: Given | None = None,
    *,
    voxel_um: Sequence[float] | None = None,
    columns: Names = None,
    block: Shape | None = None,
) -> Instances:
    """The objects of a label volume as a lazy table, at every time point; no voxel is read.

    Parameters
    ----------
    labels : volume, path, or array ([t,] z, y, x) or ([t,] y, x) of whole numbers; 0 is background. Of a table of runs, whose
        objects may overlap, each is measured on all its own voxels.
    image : raw channels; on the labels' grid, or a whole number of times finer or coarser along each axis, where a
        voxel of the labels looks at the image voxel floor(index * factor). An array may have c before z, y, x.
    voxel_um : of arrays, and of files that do not say it; spatial.
    columns : groups and columns of the table; all there are, if left out. What is never asked for costs nothing.
    block : voxels read at once; the default cuts no stored chunk.

    Raises
    ------
    InvalidInput : if labels and image do not go together, or lack what only the user knows.
    InvalidConfiguration : if a column or the block is not one; the message names the nearest column.
    """
    source = labels_of(labels, voxel_um)
    shown = image_of(image, voxel_um, source) if image is not None else None
    shape = source.spatial_shape
    if block is not None and (len(block) != len(shape) or min(block) < 1):
        raise InvalidConfiguration(f"a block of {tuple(block)} cannot cut labels of {shape}; give a size for each axis")
    sides = block_shape(source) if block is None else tuple(min(b, max(1, n)) for b, n in zip(block, shape))
    return Instances(Scene(source, shown, BlockGrid(shape, sides)), columns)


class Instances:
    """Objects of a label volume, measured when asked; made by `measure`.

    The index (label, voxels, bounding box, blocks touched) is found by one pass over the labels the first time it is
    needed, and kept; a first `collect` finds it on its own way. Everything else is computed anew each time it is asked
    for: keep the frame, not the question. Blocks are read by as many threads as there are cores.
    """

    def __init__(self, scene: Scene, columns: Names = None) -> None:
        self._scene = scene
        groups = ("shape", "surface", "topology", *(("intensity",) if scene.image is not None else ()))
        self._own = columns_of(scene, groups if columns is None else columns)
        self._census: Census | None = None
        self._lock = Lock()
        self._visits: list[Place] = []

    @property
    def columns(self) -> tuple[str, ...]:
        """Names of the table, the key first."""
        return (*KEY, *self._own)

    @property
    def visits(self) -> tuple[Place, ...]:
        """(time point, block) of every block read so far for columns that the index does not know, in order."""
        return tuple(self._visits)

    def __len__(self) -> int:
        return sum(map(len, self._index().labels().values()))

    def __bool__(self) -> bool:
        return True  # a question whether there is a table, not a reason to read one

    def __repr__(self) -> str:
        labels, frames = self._scene.labels, self._scene.labels.frames
        size = " x ".join(map(str, labels.spatial_shape)) + (f", {frames} time points" if frames > 1 else "")
        objects = "objects not counted yet" if self._census is None else f"{len(self)} objects"
        return (
            f"<Instances of {labels.name} ({size}): {objects}, {len(self.columns)} columns, "
            f"{len(self._visits)} blocks visited>"
        )

    def _repr_html_(self) -> str:
        rows = "".join(
            f"<tr><td>{escape(name)}</td><td>{escape(about.unit)}</td><td>{escape(about.definition)}</td></tr>"
            for name in self._own
            for about in [COLUMNS[max((c for c in COLUMNS if name == c or name.startswith(f"{c}_")), key=len)]]
        )
        return (
            f"<p>{escape(repr(self))}</p><details><summary>columns</summary><table>"
            f"<tr><th>column</th><th>unit</th><th>what it is</th></tr>{rows}</table></details>"
        )

    def collect(self, columns: Names = None) -> pl.DataFrame:
        """The whole table, from one pass over the blocks; sorted by t and label. Index columns always come along."""
        return pl.concat([frame_of(table) for table in self._tables(self._asked(columns))])

    def rows(self, ids: Ids, columns: Names = None, t: int = 0) -> pl.DataFrame:
        """The rows of some objects of one time point, in the order of `ids`; visits only the blocks they touch.

        Raises
        ------
        InvalidInput : if there is no such object or time point.
        """
        labels, order = np.unique(self._index().chosen(ids, t), return_inverse=True)
        return pl.concat([frame_of(table) for table in self._tables(self._asked(columns), {t: labels})])[order]

    def lazy(self) -> pl.LazyFrame:
        """The table as a polars LazyFrame: only the columns and rows that a query needs are computed.

        A predicate is first held against the index, then what may survive is computed, then it is applied again.
        """
        from polars.io.plugins import register_io_source

        def source(
            with_columns: list[str] | None, predicate: pl.Expr | None, n_rows: int | None, batch_size: int | None
        ) -> Iterator[pl.DataFrame]:
            names = list(self.columns) if with_columns is None else with_columns
            roots = predicate.meta.root_names() if predicate is not None else []
            wanted = self._candidates(predicate if n_rows is None else None, n_rows)
            for table in self._tables(_without_key([*names, *roots]), wanted):
                frame = frame_of(table)
                frame = frame.slice(0, n_rows)  # of all rows: what comes before a predicate is cut before it is asked
                n_rows = None if n_rows is None else n_rows - len(frame)
                yield (frame if predicate is None else frame.filter(predicate)).select(names)

        return register_io_source(source, schema=lambda: schema_of(self._scene, self._own), is_pure=True)

    def explain(self, what: pl.Expr | Ids | None = None, columns: Names = None, t: int = 0) -> Visit:
        """Which blocks would be visited, and for which measures; reads the index only.

        what : a predicate as one gives to `lazy().filter`, ids of objects at `t`, or all objects.
        """
        asked = list(self._asked(columns))
        if isinstance(what, pl.Expr):
            asked += what.meta.root_names()
            wanted = self._candidates(what, None)
        else:
            wanted = None if what is None else {t: np.unique(self._index().chosen(what, t))}
        census = self._index() if wanted is None else self._index().of(wanted)
        return plan_visit(self._scene, census, _without_key(asked))

    def crop(self, label: int, t: int = 0, pad: int = 0) -> xarray.Dataset:
        """The box of one object and `pad` voxels around it, as far as the volume goes.

        Returns
        -------
        `mask`, bool (z, y, x), and where there is an image `image`, ([c,] z, y, x) on the grid of the labels;
        coordinates in micrometres.
        """
        if pad < 0:
            raise InvalidConfiguration(f"crop: pad is {pad} voxels, but must be 0 or more")
        scene, axes = self._scene, self._scene.labels.spatial_axes
        row = self.rows(label, ["index"], t).row(0, named=True)
        low, high = (tuple(row[f"bbox_{a}_{end}"] for a in axes) for end in ("min", "max"))
        box = Box(low, high).grow(((pad, pad),) * len(axes)).clip(scene.grid.shape)
        return cropped(scene.labels, scene.image, box, label, t)

    def to_pandas(self, columns: Names = None) -> pandas.DataFrame:
        """The whole table in pandas."""
        return self.collect(columns).to_pandas()

    def to_arrow(self, columns: Names = None) -> pyarrow.Table:
        """The whole table in Arrow."""
        return self.collect(columns).to_arrow()

    def to_dask(self, columns: Names = None) -> dask.dataframe.DataFrame:
        """The table as a dask frame; each partition reads the blocks of its objects when dask computes it.

        Visits of dask's tasks, which may run on other machines, are not counted here.
        """
        import dask.dataframe

        names = [*KEY, *self._asked(columns)]
        meta = schema_of(self._scene, names[len(KEY) :]).to_frame().to_pandas()
        parts = list(pieces(self._index()))
        made: dask.dataframe.DataFrame = dask.dataframe.from_map(
            piece_frame, parts, scene=self._scene, columns=names, meta=meta
        )
        return made

    def to_parquet(self, path: str | Path, columns: Names = None) -> None:
        """Write the whole table, range after range of label; the file appears when it is complete."""
        self._write(Path(path), ".parquet", columns)

    def to_csv(self, path: str | Path, columns: Names = None) -> None:
        """As `to_parquet`, in text."""
        self._write(Path(path), ".csv", columns)

    def _write(self, path: Path, suffix: str, columns: Names) -> None:
        from cristae.store.tables import TableWriter

        if path.suffix != suffix:
            raise InvalidConfiguration(f"{path} would hold another format than its name says; end it in {suffix}")
        asked = self._asked(columns)
        with TableWriter(path) as out:
            for table in self._tables(asked):
                out.write(table)

    def _asked(self, columns: Names) -> tuple[str, ...]:
        return self._own if columns is None else columns_of(self._scene, columns)

    def _candidates(self, predicate: pl.Expr | None, limit: int | None) -> Wanted | None:
        """The objects that a query may need, by time point; None for all of them."""
        if predicate is None and limit is None:
            return None
        index = pl.concat([frame_of(table) for table in self._tables(self._asked("index"))])
        if predicate is not None:
            index = candidates(predicate, index, schema_of(self._scene, _without_key(predicate.meta.root_names())))
        rows = index.select("t", "label").slice(0, limit)
        return {t: rows.filter(pl.col("t") == t)["label"].to_numpy() for t in range(self._scene.labels.frames)}

    def _index(self) -> Census:
        """The census, found by one pass over the labels if nobody has needed it before."""
        with self._lock:
            if self._census is None:
                self._first_pass(())
            assert self._census is not None
            return self._census

    def _tables(self, columns: Sequence[str], wanted: Wanted | None = None) -> Iterator[Table]:
        """The columns of all objects or of the wanted ones; where there is no census yet, one pass finds both."""
        with self._lock:
            if self._census is None:
                return self._first_pass(columns)
            census = self._census
        visit = plan_visit(self._scene, census if wanted is None else census.of(wanted), columns)
        return tables(self._scene, visit, columns, usable_cores(), self._visits.append)

    def _first_pass(self, columns: Sequence[str]) -> Iterator[Table]:
        scene, parts = self._scene, parts_of(self._scene, columns)
        seen: Callable[[Place], None] = self._visits.append if parts else lambda place: None
        if not parts or "shape" not in parts[0].groups:
            parts = (index_part(scene), *parts)
        rows = read_rows(scene, parts, scene.places(), None, usable_cores(), seen)
        self._census = Census.within(scene, rows[0])
        return finished(scene, self._census.labels(), columns, list(zip(parts, rows, strict=True)), usable_cores())


def _without_key(names: Iterable[str]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(name for name in names if name not in KEY))
