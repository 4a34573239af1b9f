"""Jobs: the same bytes on every path, gone on with where they stopped, refused when their facts have changed."""

from __future__ import annotations

import json
import warnings
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import polars
import polars.testing
import pytest
from scipy import ndimage

from cristae.blocks import dispatch
from cristae.errors import Claimed, InvalidConfiguration, InvalidInput, PlanRefused
from cristae.filters import gaussian, ridge, threshold
from cristae.grid import Box
from cristae.labels import label
from cristae.pipeline import generation as gen
from cristae.pipeline import tables
from cristae.pipeline.execute import execute, plan
from cristae.pipeline.file import load
from cristae.pipeline.inputs import Inputs
from cristae.pipeline.job import Job, Outcome, Settings
from cristae.pipeline.jobs import convert_job, label_job, measure_job, run_job
from cristae.pipeline.operations import known
from cristae.store.claim import Claim
from cristae.store.create import create_volume, publish
from cristae.store.volume import open_volume

SHAPE, BLOCK = (12, 40, 44), (6, 20, 22)
VOXEL_UM = (0.3, 0.1, 0.1)
MAIN = """
output: {name: mito}
steps:
  - gaussian: {sigma_um: 0.12}
  - threshold: {method: otsu}
  - label: {min_voxels: 3}
  - measure: {columns: [shape, surface, intensity]}
"""
HERE = Settings("none", block=BLOCK)
PLAIN = Inputs()


def voxels(seed: int = 0, shape: tuple[int, ...] = SHAPE) -> np.ndarray:
    """Blobs, many of which cross block faces."""
    rough = ndimage.gaussian_filter(np.random.default_rng(seed).normal(size=shape), 1.5)
    return (1000 * np.clip(rough / rough.std(), 0, None)).astype(np.uint16)


def store(path: Path, array: np.ndarray, axes: str = "zyx", **facts: Any) -> Path:
    spatial = array.shape[-3:] if "z" in axes else array.shape[-2:]
    size = VOXEL_UM[-len(spatial) :]
    made = create_volume(
        path, axes=axes, shape=array.shape, dtype=array.dtype.name, voxel_um=size, chunk=spatial, shard=spatial, **facts
    )
    frames = array.reshape(-1, *spatial)
    for n, frame in enumerate(frames):
        made.write(Box.whole(spatial), frame, **({axes[0]: n} if len(axes) > len(spatial) else {}))
    publish(made)
    return path


@pytest.fixture
def cell(tmp_path: Path) -> Path:
    return store(tmp_path / "cell.ome.zarr", voxels())


def main_job(
    cell: Path, out: Path | None = None, text: str = MAIN, inputs: Inputs = PLAIN, changes: tuple[str, ...] = ()
) -> Job:
    return run_job(load(text, known(), changes), [str(cell)], None if out is None else str(out), inputs)


def done(job: Job, settings: Settings = HERE) -> tuple[Outcome, list[dict[str, Any]]]:
    events: list[dict[str, Any]] = []
    return execute(job, settings, events.append), events


def labels_of(path: Path) -> np.ndarray:
    volume = open_volume(path)
    return volume.read(Box.whole(volume.spatial_shape))


def table_of(cell: Path, name: str = "mito") -> polars.DataFrame:
    """Of a store, or of a run's folder."""
    beside = cell / "tables" / name / "table.parquet"
    return polars.read_parquet(beside if beside.exists() else cell / "objects.parquet")


def expected(array: np.ndarray) -> np.ndarray:
    size = VOXEL_UM[-array.ndim :]
    smooth = gaussian(0.12, voxel_um=size)(array)
    return label(min_voxels=3, voxel_um=size)(threshold(method="otsu", voxel_um=size)(smooth))


# -------------------------------------------------------------------------------------------------------- one path


@pytest.mark.parametrize("cluster", ["none", "threads:2", pytest.param("local:2", marks=pytest.mark.cluster)])
@pytest.mark.parametrize("block", [BLOCK, (5, 17, 44)])
def test_labels_and_table_are_those_of_the_whole_volume(cell: Path, cluster: str, block: tuple[int, ...]) -> None:
    outcome, events = done(main_job(cell), Settings(cluster, block=block))
    assert outcome.status == "done"
    np.testing.assert_array_equal(labels_of(cell / "labels" / "mito"), expected(voxels()))
    table = table_of(cell)
    counts = np.bincount(expected(voxels()).ravel())[1:]
    assert table["label"].to_list() == list(range(1, len(counts) + 1))
    assert table["voxels"].to_list() == counts.tolist()
    sums = ndimage.sum_labels(voxels(), expected(voxels()), table["label"])
    assert table["intensity_sum"].to_list() == sums.tolist()
    assert set(outcome.outputs) >= {cell / "labels" / "mito", cell / "tables" / "mito" / "table.parquet"}
    assert all(p.exists() for p in outcome.outputs)
    totals = [e["total"] for e in events if e["event"] == "pass"]
    assert outcome.facts["calls"] == sum(totals)


def test_an_image_of_one_block_is_one_visit_with_the_same_result(cell: Path, tmp_path: Path) -> None:
    outcome, _ = done(main_job(cell, tmp_path / "one"), Settings("none", block=SHAPE))
    done(main_job(cell, tmp_path / "many"))
    assert outcome.facts["calls"] == 1
    one, many = (labels_of(tmp_path / n / "labels" / "cell.ome.zarr") for n in ("one", "many"))
    np.testing.assert_array_equal(one, many)
    np.testing.assert_array_equal(one, expected(voxels()))
    polars.testing.assert_frame_equal(
        table_of(tmp_path / "one"), table_of(tmp_path / "many"), rel_tol=1e-12, abs_tol=1e-12
    )


def test_a_plane_is_labelled_and_measured(tmp_path: Path) -> None:
    flat = store(tmp_path / "flat.ome.zarr", voxels(3, (70, 90)), axes="yx")
    done(main_job(flat), Settings("none", block=(20, 30)))
    np.testing.assert_array_equal(labels_of(flat / "labels" / "mito"), expected(voxels(3, (70, 90))))
    columns = table_of(flat).columns
    assert "area_um2" in columns
    assert not [c for c in columns if "_z" in c]


def test_each_time_point_has_ids_of_its_own(tmp_path: Path) -> None:
    frames = np.stack([voxels(n) for n in range(3)])
    film = store(tmp_path / "film.ome.zarr", frames, axes="tzyx", frame_interval_s=2.0)
    done(main_job(film))
    found = open_volume(film / "labels" / "mito")
    for t in range(3):
        np.testing.assert_array_equal(found.read(Box.whole(SHAPE), t=t), expected(frames[t]))
    assert table_of(film)["t"].unique().sort().to_list() == [0, 1, 2]


def test_several_images_share_a_table_and_keep_their_names(tmp_path: Path) -> None:
    paths = [store(tmp_path / f"{n}.ome.zarr", voxels(int(n))) for n in "12"]
    job = run_job(load(MAIN, known()), [str(p) for p in paths], str(tmp_path / "out"), Inputs())
    done(job)
    table = table_of(tmp_path / "out")
    for n in "12":
        here = expected(voxels(int(n)))
        np.testing.assert_array_equal(labels_of(tmp_path / "out" / "labels" / f"{n}.ome.zarr"), here)
        assert table.filter(polars.col("image") == n)["voxels"].to_list() == np.bincount(here.ravel())[1:].tolist()


def test_the_input_is_never_touched(cell: Path, tmp_path: Path) -> None:
    before = {p: (p.stat().st_mtime_ns, p.read_bytes()) for p in cell.rglob("*") if p.is_file()}
    done(main_job(cell, tmp_path / "out"))
    assert {p: (p.stat().st_mtime_ns, p.read_bytes()) for p in cell.rglob("*") if p.is_file()} == before


def test_a_step_may_come_twice_with_other_parameters(cell: Path) -> None:
    """The second ridge has a gamma of its own, found on what it works on."""
    text = """
output: {name: mito}
steps:
  - gaussian: {sigma_um: 0.1}
  - ridge: {radius_um: [0.2, 0.3]}
  - gaussian: {sigma_um: 0.2}
  - ridge: {radius_um: [0.2, 0.3]}
  - threshold: {value: 0.05}
  - label
"""
    done(main_job(cell, text=text))
    tubes = ridge([0.2, 0.3], voxel_um=VOXEL_UM)
    soft = tubes(gaussian(0.1, voxel_um=VOXEL_UM)(voxels()))
    again = tubes(gaussian(0.2, voxel_um=VOXEL_UM)(soft))
    mask = threshold(value=0.05, voxel_um=VOXEL_UM)(again)
    np.testing.assert_array_equal(labels_of(cell / "labels" / "mito"), label(voxel_um=VOXEL_UM)(mask))


def test_convert_label_and_measure_by_hand_give_what_a_run_gives(cell: Path, tmp_path: Path) -> None:
    done(main_job(cell))
    np.save(tmp_path / "mask.npy", expected(voxels()) > 0)
    inputs = Inputs(axes="zyx", voxel_um=VOXEL_UM)
    done(label_job(str(tmp_path / "mask.npy"), str(tmp_path / "mito.ome.zarr"), inputs, {}))
    np.testing.assert_array_equal(labels_of(tmp_path / "mito.ome.zarr"), expected(voxels()))
    done(
        measure_job(
            str(tmp_path / "mito.ome.zarr"), str(tmp_path / "t.csv"), Inputs(), str(cell), ["shape", "intensity"]
        )
    )
    table = polars.read_csv(tmp_path / "t.csv")
    assert table["intensity_sum"].to_list() == table_of(cell)["intensity_sum"].to_list()
    np.save(tmp_path / "image.npy", voxels())
    done(convert_job(str(tmp_path / "image.npy"), str(tmp_path / "image.ome.zarr"), inputs, None))
    np.testing.assert_array_equal(labels_of(tmp_path / "image.ome.zarr"), voxels())


# ------------------------------------------------------------------------------------------------------ once, and again


@pytest.mark.parametrize("largest", [2**53 + 1, 2**55, 2**60, 2**63, 2**64 - 2, 2**64 - 1])
def test_ids_of_any_size_keep_their_rows(tmp_path: Path, largest: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """From 2**53 on, a whole number and its successor are one as floats."""
    labels = np.zeros((4, 8, 40), np.uint64)
    for n in range(10):
        labels[1:3, 2:6, 4 * n : 4 * n + 3] = largest - 3 * (9 - n)
    labels[0, 0, 0] = 7
    np.save(tmp_path / "ids.npy", labels)
    for rows in (200_000, 3, 1):
        monkeypatch.setattr(tables, "ROWS_AT_ONCE", rows)
        out = tmp_path / f"{rows}.csv"
        done(measure_job(str(tmp_path / "ids.npy"), str(out), Inputs(axes="zyx", voxel_um=VOXEL_UM), None, ["index"]))
        found = polars.read_csv(out, schema_overrides={"label": polars.UInt64})["label"].to_list()
        assert found == [7, *(largest - 3 * (9 - n) for n in range(10))]


@pytest.mark.parametrize(("label_frames", "image_frames"), [(2, 4), (4, 2), (1, 2)])
def test_labels_and_image_of_other_time_points_are_not_measured_together(
    tmp_path: Path, label_frames: int, image_frames: int
) -> None:
    labels = np.ones((label_frames, 4, 5, 6), np.uint8)
    films = [
        store(tmp_path / f"{name}.ome.zarr", film, axes="tzyx", frame_interval_s=1.0)
        for name, film in (("labels", labels), ("image", np.ones((image_frames, 4, 5, 6), np.uint16)))
    ]
    with pytest.raises(InvalidInput, match=f"{label_frames} time points but the image .* has {image_frames}"):
        measure_job(str(films[0]), str(tmp_path / "t.csv"), Inputs(), str(films[1]), None)


def test_a_group_of_columns_may_be_a_word(cell: Path, tmp_path: Path) -> None:
    word, listed = (MAIN.replace("[shape, surface, intensity]", columns) for columns in ("shape", "[shape]"))
    jobs = [run_job(load(text, known()), [str(cell)], str(tmp_path / "out"), PLAIN) for text in (word, listed)]
    assert jobs[0].extra["columns"] == jobs[1].extra["columns"]


def test_a_finished_job_has_nothing_to_do_and_touches_nothing(cell: Path) -> None:
    done(main_job(cell))
    before = {p: p.stat().st_mtime_ns for p in cell.rglob("*") if p.is_file() and p.name not in ("lock", "claim.json")}
    outcome, events = done(main_job(cell))
    assert outcome.status == "nothing to do"
    assert events == []
    assert {p: p.stat().st_mtime_ns for p in before} == before


class Enough(Exception):
    """The listener has heard enough: the driver dies in the middle."""


def until(number: int) -> Callable[[dict[str, Any]], None]:
    left = [number]

    def listen(event: dict[str, Any]) -> None:
        left[0] -= event["event"] == "blocks"
        if left[0] < 0:
            raise Enough

    return listen


@pytest.mark.parametrize("number", [0, 3, 9, 17, 26])
def test_a_job_goes_on_where_it_stopped(cell: Path, number: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dispatch, "BATCH_BLOCKS", 1)
    job = main_job(cell)
    with pytest.raises(Enough):
        execute(job, HERE, until(number))
    assert not (cell / "labels").exists()
    outcome, events = done(main_job(cell))
    start, *_ = [e for e in events if e["event"] in ("start", "pass")]
    assert start["committed"] == number + 1
    total = 8 * len(job.passes)
    assert outcome.facts["calls"] == total - start["committed"]
    np.testing.assert_array_equal(labels_of(cell / "labels" / "mito"), expected(voxels()))
    assert not list(cell.rglob("*.partial"))


def test_a_reader_never_sees_half_a_result(cell: Path) -> None:
    """While a run goes on there is no label yet, and an older one is still there."""
    done(main_job(cell))
    before = labels_of(cell / "labels" / "mito")

    def listen(event: dict[str, Any]) -> None:
        if event["event"] != "complete":
            np.testing.assert_array_equal(labels_of(cell / "labels" / "mito"), before)

    changed = main_job(cell, changes=("gaussian.sigma_um=0.2",))
    execute(changed, replace(HERE, fresh=True), listen)
    assert not np.array_equal(labels_of(cell / "labels" / "mito"), before)


def test_fresh_moves_the_old_result_aside_whole(cell: Path) -> None:
    done(main_job(cell))
    old = labels_of(cell / "labels" / "mito")
    old_table = table_of(cell)
    outcome, _ = done(main_job(cell, changes=("gaussian.sigma_um=0.2",)), replace(HERE, fresh=True))
    assert outcome.status == "done"
    new = labels_of(cell / "labels" / "mito")
    assert not np.array_equal(new, old)
    aside = cell / ".cristae" / "mito" / "gen-0001" / "replaced"
    kept = [
        p
        for p in aside.rglob("zarr.json")
        if json.loads(p.read_text())["node_type"] == "group" and p.parent.name == "mito"
    ]
    assert len(kept) == 1
    np.testing.assert_array_equal(labels_of(kept[0].parent), old)
    (table,) = aside.rglob("*.parquet")
    assert polars.read_parquet(table).equals(old_table)
    assert done(main_job(cell, changes=("gaussian.sigma_um=0.2",)))[0].status == "nothing to do"


def test_fresh_of_a_finished_run_does_it_again(cell: Path) -> None:
    done(main_job(cell))
    outcome, _ = done(main_job(cell), replace(HERE, fresh=True))
    assert outcome.status == "done"
    assert gen.latest(main_job(cell).state).number == 2  # type: ignore[union-attr]


def test_an_interrupted_fresh_goes_on_when_given_again(cell: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dispatch, "BATCH_BLOCKS", 1)
    done(main_job(cell))
    with pytest.raises(Enough):
        execute(main_job(cell), replace(HERE, fresh=True), until(5))
    _, events = done(main_job(cell), replace(HERE, fresh=True))
    assert events[0]["committed"] == 6
    assert gen.latest(main_job(cell).state).number == 2  # type: ignore[union-attr]


# --------------------------------------------------------------------------------------------------------- refused


def overwrite_voxels(cell: Path) -> None:
    open_volume(cell).write(Box.whole(SHAPE), voxels(9))


def rescale(cell: Path) -> None:
    found = json.loads((cell / "zarr.json").read_text())
    scale = found["attributes"]["ome"]["multiscales"][0]["datasets"][0]["coordinateTransformations"][0]["scale"]
    scale[0] = 0.35
    (cell / "zarr.json").write_text(json.dumps(found))


def other_source(cell: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    read = gen._source
    monkeypatch.setattr(gen, "_source", lambda name: read(name) + (b"#" if name.endswith("gaussian_kernel") else b""))


def wider_halo(job: Job) -> Job:
    def wide(stage: Any) -> Any:
        return replace(stage, halo=tuple((a + 1, b + 1) for a, b in stage.halo)) if stage.name == "gaussian" else stage

    return replace(job, passes=tuple(replace(p, chain=tuple(map(wide, p.chain))) for p in job.passes))


CHANGES: dict[str, tuple[tuple[str, ...], str]] = {
    "a width": (("gaussian.sigma_um=0.121",), "gaussian"),
    "a size limit": (("label.min_voxels=4",), "label"),
    "the connectivity": (("label.connectivity=1",), "label"),
    "the scope of a threshold": (("threshold.over=image",), "threshold"),
    "the columns of the table": (("measure.columns=[shape]",), r"order|parameters|columns|measure"),
    "columns of a group that is there already": (
        ("measure.columns=[volume_um3, surface_um2, intensity_mean]",),
        r"columns|measure|table",
    ),
}


@pytest.mark.parametrize("change", CHANGES)
def test_a_changed_file_is_refused_by_name(cell: Path, change: str) -> None:
    done(main_job(cell))
    before = labels_of(cell / "labels" / "mito")
    settings, word = CHANGES[change]
    with pytest.raises(PlanRefused, match=word) as refused:
        done(main_job(cell, changes=settings))
    assert "--fresh" in str(refused.value)
    np.testing.assert_array_equal(labels_of(cell / "labels" / "mito"), before)


@pytest.mark.parametrize(
    ("spoil", "word"), [(overwrite_voxels, "the input cell"), (rescale, r"the input cell|parameters")]
)
def test_a_changed_input_is_refused_by_name(
    cell: Path, tmp_path: Path, spoil: Callable[[Path], None], word: str
) -> None:
    done(main_job(cell, tmp_path / "out"))
    spoil(cell)
    with pytest.raises(PlanRefused, match=word):
        done(main_job(cell, tmp_path / "out"))


def test_a_changed_source_and_a_changed_halo_are_refused_by_name(cell: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    done(main_job(cell))
    with pytest.raises(PlanRefused, match="the halo of gaussian"):
        done(wider_halo(main_job(cell)))
    other_source(cell, monkeypatch)
    with pytest.raises(PlanRefused, match="the source of gaussian"):
        done(main_job(cell))


def test_other_time_points_and_channels_are_refused_by_name(tmp_path: Path) -> None:
    film = store(tmp_path / "film.ome.zarr", np.stack([voxels(n) for n in range(3)]), axes="tzyx", frame_interval_s=1.0)
    done(main_job(film, tmp_path / "out", inputs=Inputs(time=(0, 1))))
    with pytest.raises(PlanRefused, match=r"time"):
        done(main_job(film, tmp_path / "out", inputs=Inputs(time=(0, 2))))
    both = store(tmp_path / "both.ome.zarr", np.stack([voxels(n) for n in range(2)]), axes="czyx")
    done(main_job(both, inputs=Inputs(channel=0)))
    with pytest.raises(PlanRefused, match=r"channel"):
        done(main_job(both, inputs=Inputs(channel=1)))


def test_a_change_is_refused_while_a_run_is_unfinished_too(cell: Path) -> None:
    with pytest.raises(Enough):
        execute(main_job(cell), HERE, until(2))
    with pytest.raises(PlanRefused, match="gaussian"):
        done(main_job(cell, changes=("gaussian.sigma_um=0.2",)))


def test_paths_clusters_and_memory_are_no_part_of_a_result(cell: Path, tmp_path: Path) -> None:
    done(main_job(cell))
    moved = cell.rename(tmp_path / "elsewhere.ome.zarr").rename(tmp_path / "deep.d").rename(tmp_path / "cell.ome.zarr")
    assert done(main_job(moved), Settings("threads:2", memory=8 << 30))[0].status == "nothing to do"


def test_an_unfinished_run_goes_on_where_it_was_moved_to(cell: Path, tmp_path: Path) -> None:
    with pytest.raises(Enough):
        execute(main_job(cell), HERE, until(4))
    (tmp_path / "far").mkdir()
    moved = cell.rename(tmp_path / "far" / "cell.ome.zarr")
    _, events = done(main_job(moved))
    assert events[0]["committed"] >= 4
    np.testing.assert_array_equal(labels_of(moved / "labels" / "mito"), expected(voxels()))


def test_another_block_is_refused_and_the_same_one_is_not(cell: Path) -> None:
    with pytest.raises(Enough):
        execute(main_job(cell), HERE, until(2))
    with pytest.raises(PlanRefused, match=r"started with blocks of 6,20,22; leave --block out"):
        done(main_job(cell), Settings("none", block=(4, 20, 22)))
    assert done(main_job(cell), HERE)[0].status == "done"
    assert done(main_job(cell), Settings("none"))[0].status == "nothing to do"


def test_fresh_with_another_block_begins_again(cell: Path) -> None:
    """That is what the refusal tells people to do."""
    with pytest.raises(Enough):
        execute(main_job(cell), HERE, until(2))
    outcome, _ = done(main_job(cell), Settings("none", block=(4, 20, 22), fresh=True))
    assert outcome.status == "done"
    np.testing.assert_array_equal(labels_of(cell / "labels" / "mito"), expected(voxels()))


def test_a_second_driver_is_refused_with_the_holders_name(cell: Path) -> None:
    job = main_job(cell)
    with Claim(job.state), pytest.raises(Claimed, match=r"cell.ome.zarr is being written by .* \(process \d+"):
        done(job)
    assert done(job)[0].status == "done"


def test_something_else_under_the_outputs_name_is_not_overwritten(cell: Path) -> None:
    (cell / "labels" / "mito").mkdir(parents=True)
    (cell / "labels" / "mito" / "mine").write_text("dear")
    with pytest.raises(PlanRefused, match="exists already and is no result of this run"):
        done(main_job(cell))
    assert (cell / "labels" / "mito" / "mine").read_text() == "dear"
    done(main_job(cell), replace(HERE, fresh=True))
    assert [p.read_text() for p in cell.rglob("mine")] == ["dear"]


def test_what_does_not_fit_is_refused_before_a_byte_is_written(cell: Path) -> None:
    with pytest.raises(PlanRefused, match=r"a worker needs \d+ MiB .* --block|--memory"):
        done(main_job(cell), Settings("none", memory=1 << 20, block=BLOCK))
    assert not list(cell.rglob("gen-*"))
    assert not (cell / "labels").exists()


def test_a_plan_writes_nothing(cell: Path) -> None:
    before = sorted(cell.rglob("*"))
    found, limit = plan(main_job(cell), HERE)
    assert sorted(cell.rglob("*")) == before
    assert found.memory < limit
    assert {p.blocks for p in found.passes} == {8}


def test_voxels_that_are_no_numbers_are_refused_in_words(tmp_path: Path) -> None:
    array = voxels().astype(np.float32)
    array[3, 4, 5] = np.inf
    cell = store(tmp_path / "cell.ome.zarr", array)
    for settings in (HERE, Settings("none", block=SHAPE)):
        with pytest.raises(InvalidInput, match="NaN or infinite voxels") as refused:
            done(main_job(cell, tmp_path / str(settings.block)), settings)
        assert refused.value.exit_code == 3


@pytest.mark.parametrize("out", ["labels", "inputs"])
def test_two_outputs_never_share_a_name(tmp_path: Path, out: str) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    paths = [str(store(tmp_path / n / "cell.ome.zarr", voxels())) for n in "ab"]
    with pytest.raises(InvalidInput, match="both called cell; rename one"):
        run_job(load(MAIN, known()), paths, str(tmp_path / out), Inputs())


def test_images_that_differ_cannot_share_a_run(tmp_path: Path) -> None:
    paths = [
        str(store(tmp_path / "a.ome.zarr", voxels())),
        str(store(tmp_path / "b.ome.zarr", voxels().astype(np.float32))),
    ]
    with pytest.raises(InvalidInput, match=r"has dtype float32 but .* has uint16"):
        run_job(load(MAIN, known()), paths, str(tmp_path / "out"), Inputs())


def test_an_image_that_cannot_hold_labels_needs_a_place_for_them(tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", voxels())
    with pytest.raises(InvalidConfiguration, match="give --out DIR"):
        main_job(tmp_path / "a.npy", inputs=Inputs(axes="zyx", voxel_um=VOXEL_UM))


def test_only_the_input_is_said_to_have_no_frame_interval(tmp_path: Path) -> None:
    """Labels and scratch of a film without an interval have none either, and nobody need hear of it."""
    film = store(tmp_path / "film.ome.zarr", np.stack([voxels(n) for n in range(2)]), axes="tzyx")
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        done(main_job(film))
    said = {str(w.message) for w in caught if "frame interval" in str(w.message)}
    assert {s.partition(" has no")[0] for s in said} == {str(film)}
