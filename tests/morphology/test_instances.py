"""Instances: asked for in any way, the table is the same; and no block is read that nobody asked for."""

from __future__ import annotations

import doctest
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import polars as pl
import pytest
import tifffile
from hypothesis import given, settings
from hypothesis import strategies as st
from morphology.tabled import table
from polars.testing import assert_frame_equal
from skimage.measure import euler_number, marching_cubes, mesh_surface_area, regionprops_table

import cristae
from cristae.blocks.stage import At
from cristae.errors import InvalidConfiguration, InvalidInput
from cristae.grid import BlockGrid
from cristae.morphology import MEASURES, instances, sources, visiting
from cristae.morphology.predicates import candidates

VOXEL_UM = (0.3, 0.1, 0.12)
BLOCK = (20, 30, 40)


@pytest.fixture(scope="module")
def neurites(shared_data) -> np.ndarray:
    """Proofread neurites of a fly's brain: many, thin, and most of them in several blocks."""
    with np.load(shared_data / "em-fib25-train2" / "labels.npz") as stored:
        return np.ascontiguousarray(stored["labels"][40:100, 60:150, 100:220])


@pytest.fixture(scope="module")
def grey(neurites) -> np.ndarray:
    return np.random.default_rng(1).integers(0, 60000, neurites.shape, np.uint16)


def touched(labels: np.ndarray, block: tuple[int, ...], ids: list[int], t: int = 0) -> set[tuple[int, int]]:
    """By looking: the blocks that hold a voxel of these objects."""
    grid = BlockGrid(labels.shape, block)
    return {(t, i) for i, core in enumerate(grid) if np.isin(labels[core.slices], ids).any()}


def speckle(shape: tuple[int, ...], seed: int = 0) -> np.ndarray:
    """Few small objects, far apart, with gaps in their numbers."""
    rng = np.random.default_rng(seed)
    labels = np.zeros(shape, np.uint32)
    for n in range(12):
        corner = [rng.integers(0, max(1, s - 4)) for s in shape]
        labels[tuple(slice(c, c + rng.integers(1, 5)) for c in corner)] = 3 * n + 1
    return labels


def stored(folder: Path, name: str, array: np.ndarray) -> str:
    """The array as a TIFF that knows its axes and nothing else."""
    path = folder / f"{name}.ome.tif"
    tifffile.imwrite(path, array, metadata={"axes": "ZYX"})
    return str(path)


# ------------------------------------------------------------------------------------------------ the same numbers


def test_the_table_is_that_of_scikit_image(neurites, grey) -> None:
    found = cristae.measure(neurites, grey, voxel_um=VOXEL_UM, block=BLOCK).collect()
    names = ("label", "num_pixels", "bbox", "centroid", "axis_major_length", "intensity_mean", "intensity_std")
    theirs = regionprops_table(neurites, grey.astype(float), properties=names, spacing=VOXEL_UM)
    assert found["label"].to_list() == theirs["label"].tolist()
    assert found["voxels"].to_list() == theirs["num_pixels"].tolist()
    for a, axis in enumerate("zyx"):
        assert found[f"bbox_{axis}_min"].to_list() == theirs[f"bbox-{a}"].tolist()
        assert found[f"bbox_{axis}_max"].to_list() == theirs[f"bbox-{a + 3}"].tolist()
        np.testing.assert_allclose(found[f"centroid_{axis}_um"], theirs[f"centroid-{a}"], rtol=1e-9)
    large = found["voxels"].to_numpy() > 20  # of fewer voxels the axes are roots of rounding errors
    np.testing.assert_allclose(found["axis_major_um"].to_numpy()[large], theirs["axis_major_length"][large], rtol=1e-9)
    np.testing.assert_allclose(found["intensity_mean"], theirs["intensity_mean"], rtol=1e-9)
    np.testing.assert_allclose(found["intensity_std"], theirs["intensity_std"], rtol=1e-9)
    for row in found.sample(5, seed=0).iter_rows(named=True):
        alone = np.pad(neurites == row["label"], 1)
        assert row["euler_number"] == euler_number(alone, connectivity=3)
        inside = np.pad(neurites, 1, mode="edge") == row["label"]
        mesh = marching_cubes(inside.astype(np.float32), 0.5, spacing=VOXEL_UM)
        if not row["touches_border"]:
            np.testing.assert_allclose(row["surface_um2"], mesh_surface_area(*mesh[:2]), rtol=1e-6)


def test_nuclei_of_a_two_channel_stack(shared_data) -> None:
    folder = shared_data / "cells3d-nuclei"
    labels = tifffile.imread(folder / "cells3d_crop_labels_classical.tif")
    image = tifffile.imread(folder / "cells3d_crop_czyx.tif")
    nuclei = cristae.measure(labels, image, voxel_um=(0.29, 0.26, 0.26), block=(25, 40, 40))
    found = nuclei.collect(["intensity"])
    for c in range(2):
        theirs = regionprops_table(labels, image[c].astype(float), properties=("intensity_mean", "intensity_max"))
        np.testing.assert_allclose(found[f"intensity_mean_{c}"], theirs["intensity_mean"], rtol=1e-9)
        np.testing.assert_array_equal(found[f"intensity_max_{c}"], theirs["intensity_max"])
    one = nuclei.collect(["intensity_sum_1", "volume_um3"])
    assert one.columns[-2:] == ["volume_um3", "intensity_sum_1"]
    assert_frame_equal(one["intensity_sum_1"].to_frame(), found.select("intensity_sum_1"))


def test_a_run_of_the_engine_writes_the_same_bits(neurites, grey, tmp_path) -> None:
    from cristae.pipeline.execute import execute
    from cristae.pipeline.inputs import Inputs
    from cristae.pipeline.job import Settings
    from cristae.pipeline.jobs import measure_job

    labels, raw, out = stored(tmp_path, "cells", neurites), stored(tmp_path, "raw", grey), tmp_path / "table.parquet"
    groups = ["shape", "surface", "topology", "intensity"]
    job = measure_job(labels, str(out), Inputs(voxel_um=VOXEL_UM), raw, groups)
    execute(job, Settings(cluster="none", block=BLOCK), lambda *_: None)
    ours = cristae.measure(labels, Path(raw), voxel_um=VOXEL_UM, block=BLOCK)
    assert_frame_equal(ours.collect(), pl.read_parquet(out), check_exact=True)


@pytest.mark.kernel
@settings(max_examples=20)
@given(data=st.data())
def test_any_cells_asked_for_are_those_of_the_whole_table(data: st.DataObject) -> None:
    ndim = data.draw(st.sampled_from([2, 3]))
    shape = tuple(data.draw(st.lists(st.integers(5, 14), min_size=ndim, max_size=ndim)))
    block = tuple(data.draw(st.lists(st.integers(1, 9), min_size=ndim, max_size=ndim)))
    labels = speckle(shape, data.draw(st.integers(0, 99)))
    image = np.random.default_rng(0).random(shape).astype(np.float32)
    full = cristae.measure(labels, image, voxel_um=VOXEL_UM[-ndim:], block=block).collect()
    asked = cristae.measure(labels, image, voxel_um=VOXEL_UM[-ndim:], block=block)
    ids = data.draw(st.lists(st.sampled_from(full["label"].to_list()), max_size=5))
    columns = data.draw(st.lists(st.sampled_from(asked.columns[3:]), min_size=1, max_size=3))
    rows = asked.rows(ids, columns)
    index = {"image", "t", "label", "voxels", *(c for c in full.columns if c.startswith("bbox"))}
    assert set(rows.columns) == index | set(columns)
    order = [full["label"].to_list().index(i) for i in ids]
    assert_frame_equal(rows, full[order].select(rows.columns), check_exact=True)
    assert set(asked.visits) == (touched(labels, block, ids) if set(columns) - index else set())


# ------------------------------------------------------------------------------------------------ no more than asked


def test_a_hundred_lazy_cells_read_exactly_the_blocks_their_objects_touch(neurites, grey) -> None:
    full = cristae.measure(neurites, grey, voxel_um=VOXEL_UM, block=BLOCK).collect()
    asked = cristae.measure(neurites, grey, voxel_um=VOXEL_UM, block=BLOCK)
    assert len(asked) == full.height
    assert asked.visits == ()
    rng = np.random.default_rng(2)
    small = full.filter(pl.col("voxels") < 500)["label"].to_list()
    for _ in range(100):
        before = len(asked.visits)
        label, column = int(rng.choice(small)), str(rng.choice(full.columns[10:]))
        query = asked.lazy().filter(pl.col("label") == label).select(column)
        assert query.collect().item() == full.filter(pl.col("label") == label)[column].item()
        visited = asked.visits[before:]
        assert set(visited) == touched(neurites, BLOCK, [label])
        assert len(visited) == len(set(visited))


def test_making_and_showing_a_table_reads_no_voxel(monkeypatch) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise AssertionError("a voxel was read")

    monkeypatch.setattr(sources.Held, "read", refuse)
    cells = cristae.measure(speckle((9, 20, 20)), np.zeros((9, 20, 20)), voxel_um=VOXEL_UM)
    assert "not counted yet" in repr(cells)
    assert "marching-cubes" in cells._repr_html_()
    assert cells.columns[:4] == ("image", "t", "label", "voxels")
    assert cells.lazy().filter(pl.col("surface_um2") > 1).collect_schema()["euler_number"] == pl.Int64
    assert cells
    with pytest.raises(AssertionError, match="a voxel"):
        len(cells)


def test_a_first_collect_is_one_pass_and_the_index_needs_no_other(monkeypatch) -> None:
    labels, reads = speckle((9, 20, 20)), []
    read = sources.Held.read
    monkeypatch.setattr(sources.Held, "read", lambda self, box, t=0, c=0: reads.append(box) or read(self, box, t, c))
    cells = cristae.measure(labels, voxel_um=VOXEL_UM, block=(5, 7, 7))
    cells.collect()
    assert len(reads) == len(cells.visits) == len(BlockGrid(labels.shape, (5, 7, 7)))
    assert len(cells) == len(np.unique(labels)) - 1
    cells.collect("index")
    assert cells.lazy().select(pl.len()).collect().item() == len(cells)
    assert "no block" in str(cells.explain(columns="index"))
    assert len(reads) == len(cells.visits)
    before = len(cells.visits)
    cells.collect()
    assert set(cells.visits[before:]) == touched(labels, (5, 7, 7), list(range(1, 99)))  # empty blocks are left out


def test_an_image_is_not_read_where_there_is_no_object(monkeypatch) -> None:
    labels = np.zeros((4, 16, 16), np.uint8)
    labels[1, 2, 2] = 1
    image, seen = np.full(labels.shape, np.nan), []
    image[:, :8, :8] = 5
    read = sources.Shown.read
    monkeypatch.setattr(sources.Shown, "read", lambda self, box, *at: seen.append(box) or read(self, box, *at))
    assert cristae.measure(labels, image, voxel_um=VOXEL_UM, block=(4, 8, 8)).collect()["intensity_sum"].to_list() == [
        5
    ]
    assert [box.start for box in seen] == [(0, 0, 0)]


def test_explain_says_what_a_question_will_read(neurites, grey) -> None:
    cells = cristae.measure(neurites, grey, voxel_um=VOXEL_UM, block=BLOCK)
    ids = cells.collect("index").filter(pl.col("voxels") < 300)["label"].to_list()[:4]
    plan = cells.explain(ids, columns=["surface_um2"])
    assert cells.visits == ()
    assert set(plan.blocks) == touched(neurites, BLOCK, ids)
    assert (plan.objects, plan.measures) == (4, ("surface",))
    assert f"4 objects; {len(plan.blocks)} of {plan.of_blocks} blocks visited for surface" in str(plan)
    query = pl.col("label").is_in(ids) & (pl.col("sphericity") > 0)
    assert cells.explain(query, columns=["voxels"]).blocks == plan.blocks
    cells.rows(ids, ["sphericity"])
    assert cells.visits == plan.blocks


# ------------------------------------------------------------------------------------------------ polars


def queries() -> dict[str, object]:
    label, surface, voxels = pl.col("label"), pl.col("surface_um2"), pl.col("voxels")
    some = pl.LazyFrame({"label": [4, 7]}, schema={"label": pl.UInt64})
    return {
        "is in and larger": lambda f: f.filter(label.is_in([4, 7, 10, 31]) & (surface > 0.1)),
        "either": lambda f: f.filter((label == 4) | (surface > 0.3)),
        "neither": lambda f: f.filter(~((label > 20) | (surface > 0.3))),
        "derived": lambda f: f.with_columns(ratio=surface / voxels).filter(pl.col("ratio") > 0.01).select("ratio"),
        "of two": lambda f: f.filter(surface > voxels * 0.02, voxels > 2).select("label", "extent"),
        "head": lambda f: f.select("label", "surface_um2").head(3),
        "slice": lambda f: f.slice(2, 3).select("sphericity"),
        "filter, then head": lambda f: f.filter(surface > 0.1).head(2),
        "tail": lambda f: f.tail(2),
        "null is not false": lambda f: f.filter(surface.is_not_null() & (label < 20)),
        "filled": lambda f: f.filter(surface.fill_null(0) < 0.3),
        "when": lambda f: f.filter(pl.when(surface > 0.1).then(True).otherwise(label < 8)),
        "least of two": lambda f: f.filter(pl.min_horizontal(surface, voxels) < 0.2),
        "python": lambda f: f.filter(surface.map_elements(lambda v: v > 0.1, return_dtype=pl.Boolean)),
        "above the mean": lambda f: f.filter(surface > surface.mean()),
        "equal, null too": lambda f: f.filter(surface.ne_missing(voxels)),
        "image": lambda f: f.filter(pl.col("image") == "array", pl.col("touches_border")),
        "nothing": lambda f: f.filter(label == 2, surface > 0),
        "top": lambda f: f.top_k(2, by="surface_um2").select("label"),
        "grouped": lambda f: f.group_by("touches_border").agg(surface.sum()).sort("touches_border"),
        "joined": lambda f: f.join(some, on="label", how="semi").sort("label"),
        "with itself": lambda f: f.filter(label < 9).join(f.select("label", "extent"), on="label").sort("label"),
    }


@pytest.mark.filterwarnings("ignore::polars.exceptions.PolarsInefficientMapWarning")
@pytest.mark.parametrize("name", queries())
def test_a_lazy_query_answers_as_the_whole_table_does(name: str) -> None:
    labels = speckle((12, 30, 30))
    query = queries()[name]
    full = cristae.measure(labels, voxel_um=VOXEL_UM, block=(6, 10, 10)).collect()
    lazy = cristae.measure(labels, voxel_um=VOXEL_UM, block=(6, 10, 10)).lazy()
    assert_frame_equal(query(lazy).collect(), query(full.lazy()).collect(), check_exact=True)


def test_only_what_may_survive_the_index_is_visited() -> None:
    labels = speckle((12, 30, 30))
    block = (6, 10, 10)
    label, surface = pl.col("label"), pl.col("surface_um2")

    def visited(query: pl.Expr) -> set[tuple[int, int]]:
        cells = cristae.measure(labels, voxel_um=VOXEL_UM, block=block)
        cells.lazy().filter(query).select("label").collect()
        assert len(set(cells.visits)) == len(cells.visits)
        return set(cells.visits)

    assert visited(label.is_in([4, 7]) & (surface > 0.1)) == touched(labels, block, [4, 7])
    assert visited((label <= 4) & surface.is_not_null()) == touched(labels, block, [1, 4])
    assert visited(~((label > 4) | (surface > 0.3))) == touched(labels, block, [1, 4])
    assert visited((label == 4) & (pl.col("voxels") > 10**6) & (surface > 0)) == set()
    cells = cristae.measure(labels, voxel_um=VOXEL_UM, block=block)
    cells.lazy().select("label", "extent").head(2).collect()
    assert set(cells.visits) == touched(labels, block, sorted(np.unique(labels))[1:3])
    cells = cristae.measure(labels, voxel_um=VOXEL_UM, block=block)
    cells.lazy().filter(label == 7).select("label", "voxels").collect()
    assert cells.visits == ()


@pytest.mark.parametrize(
    "ask",
    [
        lambda q: q.head(3).filter(pl.col("voxels") > 2),
        lambda q: q.filter(pl.col("voxels") > 2).head(2),
        lambda q: q.head(4).filter(pl.col("extent") > 0.3).head(1),
        lambda q: q.slice(2, 3).filter(pl.col("voxels") > 2),
        lambda q: q.tail(3).filter(pl.col("label") > 4),
        lambda q: q.limit(3).filter(pl.col("voxels") > 2).select(pl.len().alias("label")),
    ],
)
def test_what_is_cut_and_what_is_filtered_come_in_the_order_of_the_query(ask: Callable[..., pl.LazyFrame]) -> None:
    labels = np.zeros((1, 4, 20), np.uint8)
    for n in range(6):
        labels[0, 0 : 1 if n in (0, 2) else 3, 3 * n : 3 * n + 2] = n + 1
    cells = cristae.measure(labels, voxel_um=(1, 1, 1), block=(1, 2, 5))
    found, wanted = (ask(table).select("label").collect() for table in (cells.lazy(), cells.collect().lazy()))
    assert found.to_series().to_list() == wanted.to_series().to_list()


@settings(max_examples=60)
@given(data=st.data())
def test_no_predicate_loses_a_row_to_the_index(data: st.DataObject) -> None:
    known, unknown = pl.col("a"), pl.col("b")
    leaves = st.sampled_from([known > 2, unknown > 2, known == unknown, unknown.is_null(), unknown.fill_null(9) < 3,
                              unknown.is_in([1, 3]), known.is_in([1, 3]), pl.coalesce(unknown, known) > 2,
                              unknown.is_between(1, known), pl.lit(True), known + unknown < 4,
                              pl.max_horizontal(unknown, known) < 3])  # fmt: skip
    joined = st.recursive(
        leaves,
        lambda inner: st.one_of(
            st.tuples(inner, inner).map(lambda p: p[0] & p[1]),
            st.tuples(inner, inner).map(lambda p: p[0] | p[1]),
            inner.map(lambda p: ~p),
            st.tuples(inner, inner).map(lambda p: pl.when(p[0]).then(p[1]).otherwise(False)),
        ),
        max_leaves=6,
    )
    predicate = data.draw(joined)
    rows = pl.DataFrame({"id": range(25), "a": [i // 5 for i in range(25)], "b": [i % 5 for i in range(25)]})
    kept = candidates(predicate, rows.drop("b"), rows.schema)
    assert kept.columns == ["id", "a"]
    assert set(rows.filter(predicate)["id"]) <= set(kept["id"])


# ------------------------------------------------------------------------------------------------ time and grids


def movie() -> tuple[np.ndarray, np.ndarray]:
    """Three time points, the middle one empty, and two channels of which time and channel both matter."""
    labels = np.stack([speckle((8, 20, 20), 0), np.zeros((8, 20, 20), np.uint32), speckle((8, 20, 20), 1)])
    image = np.random.default_rng(0).integers(0, 999, (3, 2, 8, 20, 20), np.uint16)
    return labels, image


def test_every_time_point_is_a_table_of_its_own() -> None:
    labels, image = movie()
    cells = cristae.measure(labels, image, voxel_um=VOXEL_UM, block=(4, 8, 8))
    found = cells.collect()
    for t in range(3):
        alone = table(labels[t], list(image[t]), voxel_um=VOXEL_UM, columns=cells.columns[3:])
        here = found.filter(pl.col("t") == t)
        assert here["label"].to_list() == alone["label"].tolist()
        for name in ("voxels", "surface_um2", "intensity_sum_0", "intensity_sum_1", "euler_number"):
            np.testing.assert_allclose(here[name], alone[name], rtol=1e-12)
    before = len(cells.visits)
    rows = cells.rows([4], ["surface_um2"], t=2)
    assert_frame_equal(rows, found.filter(pl.col("t") == 2, pl.col("label") == 4).select(rows.columns))
    assert set(cells.visits[before:]) == touched(labels[2], (4, 8, 8), [4], t=2)
    assert "t 2:" in str(cells.explain([4], t=2))
    with pytest.raises(InvalidInput, match="no object 4 at t 1"):
        cells.rows(4, t=1)
    with pytest.raises(InvalidInput, match="3 time points"):
        cells.rows(4, t=3)
    crop = cells.crop(4, t=2, pad=1)
    assert crop["image"].dims == ("c", "z", "y", "x")
    assert int(crop["image"].where(crop["mask"], 0).sel(c="1").sum()) == rows_sum(found, 2, 4)


def rows_sum(found: pl.DataFrame, t: int, label: int) -> int:
    return int(found.filter(pl.col("t") == t, pl.col("label") == label)["intensity_sum_1"].item())


@pytest.mark.parametrize("block", [(3, 7, 9), (12, 30, 30)])
@pytest.mark.parametrize("factors", [(1, 2, 2), (2, 1, 3)])
def test_a_coarser_or_finer_image_is_looked_up_at_the_nearest_voxel(factors, block) -> None:
    labels = speckle((12, 30, 30))
    raw = np.random.default_rng(0).integers(0, 60000, labels.shape, np.uint16)
    here = np.indices(labels.shape)
    coarse = raw[tuple(slice(None, n // f) for n, f in zip(raw.shape, factors))]
    fine = np.random.default_rng(1).integers(0, 60000, [n * f for n, f in zip(raw.shape, factors)], np.uint16)
    for image, at in (
        (coarse, [i // f for i, f in zip(here, factors)]),
        (fine, [i * f for i, f in zip(here, factors)]),
    ):
        ours = cristae.measure(labels, image, voxel_um=VOXEL_UM, block=block)
        same = cristae.measure(labels, image[tuple(at)], voxel_um=VOXEL_UM, block=block)
        assert_frame_equal(ours.collect("intensity"), same.collect("intensity"), check_exact=True)
        assert ours.crop(4, pad=2).equals(same.crop(4, pad=2))


def test_grids_that_do_not_go_together_are_refused() -> None:
    labels = np.ones((6, 10, 10), np.uint8)
    for shape in ((6, 10, 11), (6, 15, 10), (4, 10, 10)):
        with pytest.raises(InvalidInput, match="6 x 10 x 10 voxels but the image .* " + " x ".join(map(str, shape))):
            cristae.measure(labels, np.ones(shape), voxel_um=VOXEL_UM)
    with pytest.raises(InvalidInput, match=r"2 time points but the image .* has 3"):
        cristae.measure(np.stack([labels] * 2), np.ones((3, 6, 10, 10)), voxel_um=VOXEL_UM)
    with pytest.raises(InvalidInput, match="does not go with"):
        cristae.measure(labels, np.ones((10, 10)), voxel_um=VOXEL_UM)


# ------------------------------------------------------------------------------------------------ edges and ways out


@pytest.mark.parametrize("ndim", [2, 3])
def test_labels_without_objects_are_a_table_without_rows(ndim: int, tmp_path: Path) -> None:
    empty = np.zeros((5, 12, 13)[-ndim:], np.uint16)
    full = empty.copy()
    full[..., 3:5] = 2
    cells, filled = (
        cristae.measure(labels, np.ones(empty.shape, np.uint8), voxel_um=VOXEL_UM[-ndim:]) for labels in (empty, full)
    )
    assert cells.collect().schema == filled.collect().schema == cells.lazy().collect_schema()
    assert (len(cells), cells.collect().height, cells.rows([]).height) == (0, 0, 0)
    assert cells.lazy().filter(pl.col("intensity_sum") > 0).collect().height == 0
    assert len(cells.to_dask().compute()) == len(cells.to_pandas()) == 0
    cells.to_parquet(tmp_path / "none.parquet")
    assert pl.read_parquet(tmp_path / "none.parquet").schema == filled.collect().schema
    with pytest.raises(InvalidInput, match="no object 2"):
        cells.crop(2)


def test_what_is_exported_is_what_was_collected(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr(visiting, "FINISHED_AT_ONCE", 4)
    monkeypatch.setattr(visiting, "PIECE", 4)  # more than one row group, and more than one partition
    labels, image = movie()
    cells = cristae.measure(labels, image, voxel_um=VOXEL_UM, block=(4, 8, 8))
    found = cells.collect()
    cells.to_parquet(tmp_path / "out" / "cells.parquet")
    assert_frame_equal(pl.read_parquet(tmp_path / "out" / "cells.parquet"), found, check_exact=True)
    cells.to_csv(tmp_path / "cells.csv")
    assert_frame_equal(pl.read_csv(tmp_path / "cells.csv", schema=found.schema), found, rel_tol=1e-15)
    assert_frame_equal(pl.from_arrow(cells.to_arrow()), found, check_exact=True)
    assert_frame_equal(pl.from_pandas(cells.to_pandas()), found, check_exact=True)
    tasks = cells.to_dask()
    assert tasks.npartitions > 3
    assert_frame_equal(pl.from_pandas(tasks.compute().reset_index(drop=True)), found, check_exact=True)
    some = tasks[["label", "surface_um2"]].compute(scheduler="synchronous")
    assert some["surface_um2"].tolist() == found["surface_um2"].to_list()
    assert not [p.name for p in tmp_path.rglob("*.partial")]
    with pytest.raises(InvalidConfiguration, match=r"end it in \.csv"):
        cells.to_csv(tmp_path / "cells.parquet")


def test_a_crop_is_the_object_and_its_surroundings() -> None:
    labels = speckle((12, 30, 30))
    image = np.random.default_rng(0).random(labels.shape)
    cells = cristae.measure(labels, image, voxel_um=VOXEL_UM, block=(6, 10, 10))
    crop = cells.crop(7, pad=3)
    where = np.argwhere(labels == 7)
    low, high = (where.min(0) - 3).clip(0), (where.max(0) + 4).clip(max=labels.shape)
    box = tuple(slice(a, b) for a, b in zip(low, high))
    np.testing.assert_array_equal(crop["mask"], labels[box] == 7)
    np.testing.assert_array_equal(crop["image"], image[box])
    np.testing.assert_allclose(crop["y"], np.arange(low[1], high[1]) * VOXEL_UM[1])
    assert crop["x"].attrs["units"] == "um"
    assert cells.visits == ()
    inside = crop["image"].where(crop["mask"]).mean()
    np.testing.assert_allclose(inside, cells.rows(7, ["intensity_mean"])["intensity_mean"][0])


def test_volumes_and_paths_are_read_in_place(tmp_path: Path) -> None:
    labels, raw = speckle((12, 30, 30)), np.random.default_rng(0).integers(0, 99, (12, 30, 30), np.uint8)
    path, beside = stored(tmp_path, "cells", labels), stored(tmp_path, "raw", raw)
    volume = cristae.open_volume(path, voxel_um=VOXEL_UM)
    held = cristae.measure(labels, raw, voxel_um=VOXEL_UM, block=(6, 10, 10)).collect()
    cells = cristae.measure(volume, raw, block=(6, 10, 10))
    assert set(cells.collect()["image"]) == {"cells"}
    assert_frame_equal(cells.collect().drop("image"), held.drop("image"), check_exact=True)
    paths = cristae.measure(path, Path(beside), voxel_um=VOXEL_UM, block=(6, 10, 10))
    assert_frame_equal(paths.collect(), cells.collect(), check_exact=True)
    level = replace(volume.levels[0], translation_um=(1.0, 2.0, 3.0))
    moved = cristae.measure(replace(volume, levels=(level,)), raw, block=(6, 10, 10))
    for column in ("centroid_y_um", "intensity_centroid_y_um"):
        np.testing.assert_allclose(moved.collect()[column], held[column] + 2.0)
    np.testing.assert_allclose(moved.crop(4)["y"], cells.crop(4)["y"] + 2.0)
    with pytest.raises(InvalidInput, match="its own voxel size"):
        cristae.measure(volume, voxel_um=VOXEL_UM)


def test_one_thread_and_many_agree(monkeypatch) -> None:
    labels, image = movie()
    frames = []
    for threads in (1, 4):
        monkeypatch.setattr(instances, "usable_cores", lambda n=threads: n)
        cells = cristae.measure(labels, image, voxel_um=VOXEL_UM, block=(3, 5, 6))
        frames.append((cells.collect(), cells.visits))
    assert_frame_equal(frames[0][0], frames[1][0], check_exact=True)
    assert frames[0][1] == frames[1][1]


def test_labels_beyond_what_a_float_can_count_keep_their_names() -> None:
    labels = np.zeros((4, 9, 9), np.uint64)
    labels[0, 0, :2], labels[1:3, 5, 5] = 2**63 + 1, 2**63 + 2
    cells = cristae.measure(labels, voxel_um=VOXEL_UM, block=(2, 3, 3))
    assert cells.rows([2**63 + 2, 2**63 + 1], ["extent"])["label"].to_list() == [2**63 + 2, 2**63 + 1]
    assert cells.lazy().filter(pl.col("label") == 2**63 + 2).select("voxels").collect().item() == 2
    with pytest.raises(InvalidInput, match=f"no object {2**63 + 3}"):
        cells.rows(2**63 + 3)
    with pytest.raises(InvalidInput, match="no object -1"):
        cells.rows([-1])


def test_what_a_block_refuses_reaches_the_user() -> None:
    labels = np.ones((4, 40, 40), np.int16)
    labels[2, 30, 3] = -7
    with pytest.raises(InvalidInput, match="-7"):
        len(cristae.measure(labels, voxel_um=VOXEL_UM, block=(2, 8, 8)))


def test_questions_that_mean_nothing_are_one_sentence() -> None:
    labels = speckle((6, 12, 12))
    cells = cristae.measure(labels, voxel_um=VOXEL_UM)
    for refused, match, ask in (
        (InvalidInput, "label the mask", lambda: cristae.measure(labels.astype(float), voxel_um=VOXEL_UM)),
        (InvalidInput, "voxel_um=", lambda: cristae.measure(labels)),
        (InvalidInput, "no volume", lambda: cristae.measure(labels[None, None], voxel_um=VOXEL_UM)),
        (InvalidInput, "no volume", lambda: cristae.measure(labels, voxel_um=(0.1, 0, 0.1))),
        (InvalidInput, "need an image", lambda: cristae.measure(labels, voxel_um=VOXEL_UM, columns="intensity")),
        (InvalidInput, "need an image", lambda: cells.collect(["intensity_mean"])),
        (InvalidConfiguration, "'surface_um2'", lambda: cells.collect("surface_um")),
        (InvalidConfiguration, "'voxels'", lambda: cells.explain(pl.col("voxel") > 1)),
        (InvalidConfiguration, "a size for each axis", lambda: cristae.measure(labels, voxel_um=VOXEL_UM, block=(0, 4, 4))),
        (InvalidInput, "no object 2 at t 0; there are 12 objects, from 1 to 34", lambda: cells.rows([1, 2])),
        (InvalidInput, "whole numbers", lambda: cells.rows([1.5])),
    ):  # fmt: skip
        with pytest.raises(refused, match=match):
            ask()


def test_the_example_of_the_room_runs() -> None:
    failed, ran = doctest.testmod(instances)
    assert ran > 5 and failed == 0


def test_the_census_is_that_of_the_measure_index(neurites) -> None:
    cells = cristae.measure(neurites, voxel_um=VOXEL_UM, block=BLOCK)
    cells.collect("shape")  # finds the index on its way
    grid, measure = BlockGrid(neurites.shape, BLOCK), MEASURES["index"](voxel_um=VOXEL_UM)
    parts = [
        measure.partial(neurites[core.slices], at=At(core, (core,), grid, i), answers={}) for i, core in enumerate(grid)
    ]
    assert cells._index().rows[0].tobytes() == measure.merge(parts)["rows"].tobytes()
