"""Tables of runs as volumes: every object whole in one layer, any box that of the whole, damage in one sentence."""

from __future__ import annotations

import subprocess
import sys
import tracemalloc
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st
from overlapping import ABOUT, BLOCK, SHAPE, VOXEL_UM, Masks, balls, blocks_of, rows_of, written

from cristae.blocks.plan import RUNS
from cristae.errors import InvalidInput
from cristae.grid import BlockGrid, Box
from cristae.store import runs
from cristae.store.runs import NOTE, About, open_runs
from cristae.store.tables import TableWriter
from cristae.store.volume import open_volume


def layers(path: Path) -> np.ndarray:
    """(t, layer, z, y, x)."""
    volume = open_volume(path)
    whole = Box.whole(volume.spatial_shape)
    return np.array([[volume.read(whole, t, c) for c in range(volume.channel_count)] for t in range(volume.frames)])


def same_objects(found: np.ndarray, masks: Masks) -> None:
    """Every object wholly in one layer, and nothing else anywhere."""
    for (t, label), mask in masks.items():
        holds = [layer for layer in found[t] if (layer == label).any()]
        assert len(holds) == 1, "an object is in several layers, or in none"
        np.testing.assert_array_equal(holds[0] == label, mask)
    assert np.count_nonzero(found) == sum(int(mask.sum()) for mask in masks.values())


@pytest.fixture
def crossing() -> Masks:
    masks = balls(1, 40)
    assert np.sum(list(masks.values()), axis=0).max() > 2, "nothing crosses"
    return masks


def test_every_object_is_whole_in_one_of_few_layers(crossing: Masks, tmp_path: Path) -> None:
    found = layers(written(tmp_path / "a.parquet", blocks_of(crossing)))
    same_objects(found, crossing)
    depth = int(np.sum(list(crossing.values()), axis=0).max())
    assert depth <= found.shape[1] <= depth + 2


def test_the_volume_says_what_it_is(crossing: Masks, tmp_path: Path) -> None:
    store = tmp_path / "cell.ome.zarr" / "tables" / "vesicle"
    store.mkdir(parents=True)
    about = replace(ABOUT, translation_um=(1.0, 2.0, 3.0))
    volume = open_volume(written(store / "runs.parquet", blocks_of(crossing), about))
    assert (volume.axes, volume.kind, volume.reader, volume.dtype) == ("czyx", "label", "runs", "uint32")
    assert (volume.name, volume.label) == ("cell", "vesicle")
    assert volume.spatial_shape == SHAPE and volume.voxel_um == VOXEL_UM and volume.chunk == BLOCK
    assert volume.translation_um == (1.0, 2.0, 3.0)
    assert volume.layers == volume.channel_count > 1
    assert open_volume(written(tmp_path / "mine.parquet", blocks_of(crossing))).name == "mine"
    assert open_volume(tmp_path / "mine.parquet", voxel_um=(1.0, 0.5, 0.5)).voxel_um == (1.0, 0.5, 0.5)


@pytest.mark.filterwarnings("ignore:.*no frame interval")
def test_time_points_have_their_own_objects_and_layers(tmp_path: Path) -> None:
    masks = balls(5, 60, frames=3)
    masks[1, 1] = masks[2, 1] = next(iter(masks.values()))
    path = written(tmp_path / "a.parquet", blocks_of(masks), replace(ABOUT, frames=3))
    assert open_volume(path).axes == "tczyx" and open_volume(path).frames == 3
    same_objects(layers(path), masks)


@given(data=st.data())
def test_any_box_is_that_of_the_whole(data: st.DataObject, tmp_path_factory: pytest.TempPathFactory) -> None:
    path = tmp_path_factory.getbasetemp() / "boxes.parquet"
    if not path.exists():
        written(path, blocks_of(balls(2, 50)))
    volume, every = open_volume(path), layers(path)[0]
    spans = [sorted(data.draw(st.lists(st.integers(0, n), min_size=2, max_size=2, unique=True))) for n in SHAPE]
    box = Box(tuple(a for a, _ in spans), tuple(b for _, b in spans))
    c = data.draw(st.integers(0, len(every) - 1))
    np.testing.assert_array_equal(volume.read(box, c=c), every[(c, *box.slices)])
    out = np.full(box.shape[::-1], 9, np.uint32).T  # a view that is not C-contiguous
    np.testing.assert_array_equal(volume.read(box, c=c, out=out), every[(c, *box.slices)])


@pytest.mark.parametrize("swept", [1, 40, 1 << 20])
@pytest.mark.parametrize("groups", ["blocks", "one", "shuffled", "no statistics"])
def test_neither_order_nor_groups_of_rows_show(
    groups: str, swept: int, crossing: Masks, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = layers(written(tmp_path / "a.parquet", [rows_of(crossing)]))
    monkeypatch.setattr(runs, "SWEPT", swept)
    monkeypatch.setattr(runs, "BATCH", 7)
    monkeypatch.setattr(runs, "PAINTED", 5)
    parts = [rows_of(crossing)] if groups == "one" else blocks_of(crossing)
    if groups == "shuffled":
        whole = {name: np.concatenate([part[name] for part in parts]) for name in runs.COLUMNS}
        order = np.random.default_rng(0).permutation(len(whole["t"]))
        parts = [{name: column[some] for name, column in whole.items()} for some in np.array_split(order, 9)]
    path = written(tmp_path / "b.parquet", parts, write_statistics=groups != "no statistics")
    np.testing.assert_array_equal(layers(path), expected)


def test_a_run_is_seen_from_any_of_its_voxels(tmp_path: Path) -> None:
    run = {"t": 0, "label": 5, "z": 3, "y": 4, "x0": 2, "length": 20}
    volume = open_volume(written(tmp_path / "a.parquet", [{k: np.array([v], np.int32) for k, v in run.items()}]))
    for x in range(SHAPE[2]):
        assert volume.read(Box((3, 4, x), (4, 5, x + 1))).item() == (5 if 2 <= x < 22 else 0)


def test_without_overlap_one_layer_is_enough_and_without_objects_too(tmp_path: Path) -> None:
    apart = {(0, 5): np.zeros(SHAPE, bool), (0, 2): np.zeros(SHAPE, bool)}
    apart[0, 5][2:4, 3:8, 3:9], apart[0, 2][2:4, 3:8, 9:12] = True, True  # face to face
    found = layers(written(tmp_path / "a.parquet", blocks_of(apart)))
    assert found.shape[1] == 1
    same_objects(found, apart)
    assert not layers(written(tmp_path / "b.parquet", blocks_of({}))).any()
    assert open_volume(tmp_path / "b.parquet").layers == 1


def test_large_labels_are_kept(tmp_path: Path) -> None:
    rows = rows_of(balls(3, 10))
    rows["label"] = rows["label"].astype(np.uint64) + np.uint64(2**63)
    path = written(tmp_path / "a.parquet", [rows])
    assert open_volume(path).dtype == "uint64"
    np.testing.assert_array_equal(np.unique(layers(path))[1:], np.unique(rows["label"]))


def test_a_table_that_was_replaced_is_opened_anew(tmp_path: Path) -> None:
    path = written(tmp_path / "a.parquet", [rows_of(balls(1, 5))])
    assert not np.isin(99, layers(path))
    other = {(0, 99): balls(1, 1)[0, 1]}
    written(tmp_path / "b.parquet", [rows_of(other)]).replace(path)
    same_objects(layers(path), other)


# ------------------------------------------------------------------------------------------------------------ memory


@pytest.fixture(scope="module")
def large(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """1.6 million runs in 64 row groups, as blocks of 16 x 64 x 64 leave them."""
    about = About("vesicle", (32, 256, 512), VOXEL_UM, (16, 64, 64))
    grid, rng = BlockGrid(about.shape, about.block), np.random.default_rng(0)
    parts = []
    for n in range(len(grid)):
        z, y, x = (rng.integers(a, b, 25_000) for a, b in zip(grid.core(n).start, grid.core(n).stop))
        rows = {"t": 0 * z, "label": 1 + z % 3 + 10 * n, "z": z, "y": y, "x0": x, "length": 1 + 0 * z}
        parts.append({name: column.astype(np.int32) for name, column in rows.items()})
    return written(tmp_path_factory.mktemp("large") / "large.parquet", parts, about)


def test_a_box_reads_only_the_row_groups_that_it_meets(large: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    volume, read = open_volume(large), []
    decode = pq.ParquetFile.iter_batches

    def noted(self: Any, size: int, row_groups: Any = None, **rest: Any) -> Any:
        read.append(row_groups)
        return decode(self, size, row_groups=row_groups, **rest)

    monkeypatch.setattr(pq.ParquetFile, "iter_batches", noted)
    grid = BlockGrid((32, 256, 512), (16, 64, 64))
    assert volume.read(grid.core(37)).any() and read.pop() == [37]
    around = grid.core(37).grow(((1, 1),) * 3).clip(grid.shape)
    assert volume.read(around).any() and read.pop() == grid.meeting(around)
    assert len(grid.meeting(around)) == 12


@pytest.mark.parametrize("what", ["open", "read"])
def test_memory_is_bounded_by_what_is_held_at_once(large: Path, what: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(runs, "SWEPT", 1 << 15)
    monkeypatch.setattr(runs, "BATCH", 1 << 13)
    runs._opened.cache_clear()
    volume = open_volume(large) if what == "read" else None
    tracemalloc.start()
    try:
        if volume is not None:
            volume.read(Box((0, 0, 0), (16, 64, 64)))
        else:
            open_runs(large)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
        runs._opened.cache_clear()
    assert peak < 0.5 * 1_600_000 * 24, "it holds as much as the rows of the whole table"


FRESH = """
import sys
from pathlib import Path
import cristae.blocks.task, cristae.morphology.instances
from cristae.cluster.allocation import give_back_memory, peak_memory
from cristae.grid import Box
from cristae.store.volume import open_volume

give_back_memory()
before = peak_memory()
volume = open_volume(sys.argv[1])
for z in (0, 16):
    volume.read(Box((z, 0, 0), (z + 16, 64, 64)))
print(peak_memory() - before)
"""


def test_a_process_takes_no_more_than_its_plan_says(large: Path) -> None:
    said = subprocess.run([sys.executable, "-c", FRESH, large], capture_output=True, text=True, check=True).stdout
    assert 10 << 20 < int(said) < RUNS


# ------------------------------------------------------------------------------------------------------------ damage


def noted(note: bytes | None) -> pyarrow.Table:
    table = pyarrow.table(rows_of(balls(1, 5)))
    return table.replace_schema_metadata({} if note is None else {NOTE: note})


def changed(**columns: Any) -> pyarrow.Table:
    rows = rows_of(balls(1, 5))
    rows |= {name: np.full(len(rows["t"]), value) for name, value in columns.items()}
    return pyarrow.table(rows).replace_schema_metadata(ABOUT.noted())


GOOD = ABOUT.noted()[NOTE].encode()
BAD: dict[str, tuple[pyarrow.Table, str]] = {
    "another table": (pyarrow.table({"label": [1], "voxels": [2]}), "has no whole numbers t, z, y, x0, length"),
    "real numbers": (changed(z=0.5), "has no whole numbers z;"),
    "runs of an unknown volume": (noted(None), "does not say in which volume"),
    "a note that is no JSON": (noted(b"{"), "cannot be read"),
    "a note of a list": (noted(b"[1]"), "cannot be read"),
    "a note of other facts": (noted(b'{"size": [1, 2, 3]}'), "cannot be read"),
    "a plane": (noted(GOOD.replace(b"[9, 20, 31]", b"[20, 31]")), "of no volume"),
    "a shape of nothing": (noted(GOOD.replace(b"[9, 20, 31]", b"[0, 20, 31]")), "of no volume"),
    "a voxel without size": (noted(GOOD.replace(b"0.12", b"0.0")), "voxel size of 0.0 um along x"),
    "a voxel that is no number": (noted(GOOD.replace(b"0.12", b"NaN")), "of no volume"),
    "a plane too many": (changed(z=9), "z from 9 to 9"),
    "a line before the first": (changed(y=-1), "y from -1 to -1"),
    "another time point": (changed(t=1), "t from 1 to 1"),
    "a run over the side": (changed(x0=30, length=2), "x0 30, length 2"),
    "a run of nothing": (changed(length=0), "length 0"),
    "the background as an object": (changed(label=0), "label 0"),
    "a negative label": (changed(label=-3), "label -3"),
}


@pytest.mark.parametrize("mistake", BAD)
@pytest.mark.parametrize("statistics", [True, False])
def test_what_is_no_table_of_runs_is_one_sentence(mistake: str, statistics: bool, tmp_path: Path) -> None:
    table, said = BAD[mistake]
    if not statistics:
        said = said.split(" from ")[0]
    path = tmp_path / "a.parquet"
    pq.write_table(table, path, write_statistics=statistics)
    with pytest.raises(InvalidInput) as refused:
        open_volume(path)
    assert said in str(refused.value) and str(path) in str(refused.value) and "\n" not in str(refused.value)


def test_lost_numbers_are_named(tmp_path: Path) -> None:
    table = changed()
    holes = pyarrow.array([None, *table["y"].to_pylist()[1:]], pyarrow.int32())
    table = table.set_column(table.schema.get_field_index("y"), "y", holes).replace_schema_metadata(ABOUT.noted())
    pq.write_table(table, tmp_path / "a.parquet")
    with pytest.raises(InvalidInput, match="lacks numbers in some rows"):
        open_volume(tmp_path / "a.parquet")


def test_torn_and_foreign_files_are_one_sentence(tmp_path: Path) -> None:
    whole = written(tmp_path / "whole.parquet", blocks_of(balls(1, 40))).read_bytes()
    for name, data in {"torn": whole[:-20], "text": b"t,label\n1,2\n", "begun": whole[: len(whole) // 2]}.items():
        path = tmp_path / f"{name}.parquet"
        path.write_bytes(data)
        with pytest.raises(InvalidInput, match=r"\.parquet is not a whole Parquet file: ") as refused:
            open_volume(path)
        assert "\n" not in str(refused.value)
    with pytest.raises(InvalidInput, match="leave --scene 1 out"):
        open_volume(tmp_path / "whole.parquet", scene="1")


def test_a_flipped_bit_is_noticed(tmp_path: Path) -> None:
    path = tmp_path / "a.parquet"
    rows = rows_of(balls(1, 40))
    with TableWriter(path, ABOUT.noted()) as out:
        out.write(rows)
    data = path.read_bytes()
    group = pq.read_metadata(path).row_group(0)
    for name in runs.COLUMNS:
        column = next(group.column(n) for n in range(6) if group.column(n).path_in_schema == name)
        at = (column.dictionary_page_offset or column.data_page_offset) + column.total_compressed_size - 3
        path.write_bytes(data[:at] + bytes([data[at] ^ 4]) + data[at + 1 :])
        with pytest.raises(InvalidInput, match="is not a whole Parquet file"):
            open_volume(path)
