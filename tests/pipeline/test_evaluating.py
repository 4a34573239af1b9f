"""Evaluations as jobs: the same scores on every path, pairs by name, and one sentence for what cannot be scored."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import numpy as np
import polars
import pytest
import tifffile
from evaluation.drawn import cells, table_of
from PIL import Image
from typer.testing import CliRunner

from cristae.errors import InvalidConfiguration, InvalidInput, PlanRefused, SetAside
from cristae.evaluation import topology
from cristae.evaluation.objects import Rules
from cristae.evaluation.scores import Kind, document, score
from cristae.grid import Box
from cristae.pipeline.evaluated import BOTH, PREDICTED, TRUE, drawn
from cristae.pipeline.evaluating import Wanted, bare, evaluate_job
from cristae.pipeline.execute import execute
from cristae.pipeline.inputs import Inputs
from cristae.pipeline.job import Settings
from cristae.store.create import create_volume, publish
from cristae_cli.main import app

VOXEL_UM = (0.3, 0.1, 0.1)
SIZED = Inputs("zyx", VOXEL_UM)
PLAIN = Inputs()
HERE = Settings("none", block=(4, 17, 20))


def store(path: Path, *frames: np.ndarray, voxel_um: tuple[float, ...] = VOXEL_UM) -> str:
    """Labels of one time point or several, in chunks of their own."""
    shape = frames[0].shape
    film = len(frames) > 1
    made = create_volume(
        path,
        axes=("t" if film else "") + "zyx"[-len(shape) :],
        shape=((len(frames),) if film else ()) + shape,
        dtype=frames[0].dtype.name,
        voxel_um=voxel_um[-len(shape) :],
        chunk=shape,
        shard=shape,
        kind="image" if frames[0].dtype.kind == "f" else "label",
    )
    for t, frame in enumerate(frames):
        made.write(Box.whole(shape), frame, t=t)
    publish(made)
    return str(path)


@pytest.fixture
def pair(tmp_path: Path) -> tuple[str, str]:
    pred, truth = cells(0)
    return store(tmp_path / "pred.ome.zarr", pred), store(tmp_path / "truth.ome.zarr", truth)


def scored(
    pred: str, truth: str, out: Path, wanted: Wanted | None = None, inputs: Inputs = PLAIN, settings: Settings = HERE
) -> Any:
    execute(evaluate_job(pred, truth, str(out), inputs, wanted), settings, lambda event: None)
    return json.loads(out.with_suffix(".json").read_text())


def expected(pairs: dict[str, list[tuple[np.ndarray, np.ndarray]]], kind: Kind) -> Any:
    """The document of arrays in memory: time points by the name of their image."""
    scores = [
        score(kind, table_of(*both), image=name, t=t, number=number, voxel=0.3 * 0.1 * 0.1)
        for number, (name, points) in enumerate(pairs.items())
        for t, both in enumerate(points)
    ]
    return json.loads(json.dumps(document(kind, scores)))


def same(found: Any, wanted: Any) -> None:
    for name in ("images", "mean", "pooled", "recall_by_size", "interval", "figures"):
        assert found.get(name) == wanted.get(name), name


# ------------------------------------------------------------------------------------------------------- one path


@pytest.mark.parametrize("cluster", ["none", "threads:2", pytest.param("local:2", marks=pytest.mark.cluster)])
@pytest.mark.parametrize("block", [(4, 17, 20), (10, 40, 44), (1, 40, 7)])
def test_blocks_and_clusters_change_no_figure(
    pair: tuple[str, str], tmp_path: Path, cluster: str, block: tuple[int, ...]
) -> None:
    found = scored(*pair, tmp_path / "s.json", settings=Settings(cluster, block=block))
    same(found, expected({"pred": [cells(0)]}, Kind(3)))


def test_rules_are_kept(pair: tuple[str, str], tmp_path: Path) -> None:
    rules = Rules(30, (0.3, 0.75))
    found = scored(*pair, tmp_path / "s.json", Wanted(rules))
    same(found, expected({"pred": [cells(0)]}, Kind(3, rules=rules)))
    assert found["min_voxels"] == 30 and "ap_30" in found["pooled"]
    assert found["pooled"]["predictions"] < expected({"pred": [cells(0)]}, Kind(3))["pooled"]["predictions"]


def test_topology_is_that_of_each_whole_image(tmp_path: Path) -> None:
    pred, truth = folders(tmp_path, ("a",), 2)
    found = scored(f"{pred}/a.ome.zarr", f"{truth}/a.ome.zarr", tmp_path / "s.json", Wanted(topology=True))
    for t, one in enumerate(found["images"]):
        lines = topology.topology_figures(topology.topology_counts(*(a > 0 for a in cells(t))), 3)
        assert {name: one[name] for name in lines} == pytest.approx(lines)
    assert found["images"][0]["cldice"] != found["images"][1]["cldice"]


def test_the_same_command_again_does_nothing_and_another_rule_is_refused(pair: tuple[str, str], tmp_path: Path) -> None:
    job = evaluate_job(*pair, str(tmp_path / "s.json"), PLAIN)
    assert execute(job, HERE, lambda event: None).status == "done"
    assert execute(job, HERE, lambda event: None).status == "nothing to do"
    with pytest.raises(PlanRefused, match="min_voxels"):
        scored(*pair, tmp_path / "s.json", Wanted(Rules(7)))


def test_a_csv_has_a_row_for_each_image_and_for_all(pair: tuple[str, str], tmp_path: Path) -> None:
    found = scored(*pair, tmp_path / "s.csv")
    with open(tmp_path / "s.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["row"] for row in rows] == ["image", "mean", "low", "high", "n", "pooled"]
    assert rows[0]["image"] == "pred"
    for name, value in found["pooled"].items():
        assert float(rows[-1][name]) == value
    assert rows[2]["dice"] == ""  # one image has no interval


# ---------------------------------------------------------------------------------------- several images and times


def folders(here: Path, names: tuple[str, ...], frames: int = 1) -> tuple[str, str]:
    for n, name in enumerate(names):
        for side, arrays in zip(
            ("pred", "truth"), zip(*(cells(10 * n + t) for t in range(frames)), strict=True), strict=True
        ):
            (here / side).mkdir(exist_ok=True)
            if not (here / side / f"{name}.ome.zarr").exists():
                store(here / side / f"{name}.ome.zarr", *arrays)
    return str(here / "pred"), str(here / "truth")


def test_folders_are_paired_by_name_and_time_points_in_order(tmp_path: Path) -> None:
    found = scored(*folders(tmp_path, ("b", "a"), 2), tmp_path / "s.json")
    wanted = {"a": [cells(10), cells(11)], "b": [cells(0), cells(1)]}
    same(found, expected(wanted, Kind(3)))
    assert found["interval"]["over"] == "images" and found["interval"]["units"] == 2


def test_what_all_names_of_a_side_share_is_not_in_the_way(tmp_path: Path) -> None:
    for n, name in enumerate(("7", "11")):
        for side, ending, array in zip(("pred", "truth"), ("-mito", "_mask"), cells(n), strict=True):
            (tmp_path / side).mkdir(exist_ok=True)
            store(tmp_path / side / f"{side}_{name}{ending}.ome.zarr", array)
    found = scored(str(tmp_path / "pred"), str(tmp_path / "truth"), tmp_path / "s.json")
    same(found, expected({"pred_11-mito": [cells(1)], "pred_7-mito": [cells(0)]}, Kind(3)))


@pytest.mark.parametrize(
    ("names", "left"),
    [
        (["a-mito", "b-mito"], ["a", "b"]),
        (["pred_01", "pred_02"], ["01", "02"]),
        (["x_1_y", "x_11_y"], ["1", "11"]),
        (["cell1", "cell2"], ["cell1", "cell2"]),
        (["a-b", "a-b-b"], ["a", "a-b"]),
        (["-b", "a-b"], ["", "a"]),
        (["alone-mito"], ["alone-mito"]),
        (["a-a", "b"], ["a-a", "b"]),
    ],
)
def test_names_without_what_they_share(names: list[str], left: list[str]) -> None:
    assert bare(names) == left
    assert len(set(bare(names))) == len(names)


def test_some_time_points_of_one_image(tmp_path: Path) -> None:
    pred, truth = folders(tmp_path, ("a",), 3)
    found = scored(f"{pred}/a.ome.zarr", f"{truth}/a.ome.zarr", tmp_path / "s.json", inputs=Inputs(time=(1, 3)))
    assert [one["t"] for one in found["images"]] == [1, 2]
    whole = expected({"a": [cells(t) for t in range(3)]}, Kind(3))
    assert found["images"] == whole["images"][1:]
    assert found["interval"]["over"] == "time points"


def test_a_part_is_scored_as_if_it_were_all(pair: tuple[str, str], tmp_path: Path) -> None:
    found = scored(
        *pair, tmp_path / "s.json", inputs=Inputs(crop={"y": (5, 33), "z": (2, 9)}), settings=Settings("none")
    )
    same(found, expected({"pred": [tuple(a[2:9, 5:33] for a in cells(0))]}, Kind(3)))  # type: ignore[list-item]


def test_a_new_image_joins_what_was_scored(tmp_path: Path) -> None:
    scored(*folders(tmp_path, ("b", "c")), tmp_path / "s.json")
    for side, array in zip(("pred", "truth"), cells(99), strict=True):
        store(tmp_path / side / "a.ome.zarr", array)
    job = evaluate_job(str(tmp_path / "pred"), str(tmp_path / "truth"), str(tmp_path / "s.json"), PLAIN)
    grown = execute(job, Settings("none"), lambda event: None)
    assert grown.facts["calls"] == 27  # the blocks of one image
    found = json.loads((tmp_path / "s.json").read_text())
    same(found, expected({"b": [cells(0)], "c": [cells(10)], "a": [cells(99)]}, Kind(3)))


def test_an_image_with_a_bad_label_is_set_aside_and_joins_when_mended(tmp_path: Path) -> None:
    pred, truth = folders(tmp_path, ("b", "c"))
    for side, array in zip((pred, truth), cells(5), strict=True):
        np.save(Path(side) / "a.npy", array.astype(np.int32))
    spoiled = cells(5)[1].astype(np.int32)
    spoiled[9, 30, 30] = -4
    np.save(Path(truth) / "a.npy", spoiled)
    job = evaluate_job(pred, truth, str(tmp_path / "s.json"), SIZED)
    with pytest.raises(SetAside, match=r"2 images are done, but a is not: .*the truth has a label -4"):
        execute(job, HERE, lambda event: None)
    found = json.loads((tmp_path / "s.json").read_text())
    assert [one["image"] for one in found["images"]] == ["b", "c"] and "label -4" in found["set_aside"]["a"]
    np.save(Path(truth) / "a.npy", cells(5)[1].astype(np.int32))
    found = scored(pred, truth, tmp_path / "s.json", inputs=SIZED, settings=Settings("none"))
    same(found, expected({"a": [cells(5)], "b": [cells(0)], "c": [cells(10)]}, Kind(3)))
    assert "set_aside" not in found


def test_an_evaluation_goes_on_where_it_was_stopped(
    pair: tuple[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    job = evaluate_job(*pair, str(tmp_path / "s.json"), PLAIN)
    with monkeypatch.context() as patch:
        patch.setattr("cristae.pipeline.execute.finish_outputs", stopped)
        with pytest.raises(KeyboardInterrupt):
            execute(job, HERE, lambda event: None)
    assert not (tmp_path / "s.json").exists()
    assert execute(job, HERE, lambda event: None).facts["calls"] == 0
    same(json.loads((tmp_path / "s.json").read_text()), expected({"pred": [cells(0)]}, Kind(3)))


def stopped(*words: object) -> None:
    raise KeyboardInterrupt


def test_files_without_axes_beside_stores_that_have_them(tmp_path: Path) -> None:
    pred, truth = cells(3)
    np.save(tmp_path / "pred.npy", pred)
    film = store(tmp_path / "truth.ome.zarr", truth)
    found = scored(str(tmp_path / "pred.npy"), film, tmp_path / "s.json", inputs=SIZED)
    same(found, expected({"pred": [(pred, truth)]}, Kind(3)))


def test_a_folder_of_a_run_stands_for_its_labels(tmp_path: Path) -> None:
    pred, truth = cells(3)
    (tmp_path / "out" / "labels").mkdir(parents=True)
    store(tmp_path / "out" / "labels" / "a.ome.zarr", pred)
    found = scored(str(tmp_path / "out"), store(tmp_path / "a.ome.zarr", truth), tmp_path / "s.json")
    assert found["images"][0]["image"] == "a"


# ------------------------------------------------------------------------------------------------ masks and planes


@pytest.mark.parametrize("side", [0, 1])
def test_where_one_is_a_mask_only_voxels_are_scored(tmp_path: Path, side: int) -> None:
    arrays = list(cells(1))
    arrays[side] = arrays[side] > 0
    for n, array in enumerate(arrays):
        np.save(tmp_path / f"{n}.npy", array)
    found = scored(str(tmp_path / "0.npy"), str(tmp_path / "1.npy"), tmp_path / "s.json", inputs=SIZED)
    same(found, expected({"0": [cells(1)]}, Kind(3, by_object=False)))
    assert found["scored"] == "masks"


def test_labels_can_be_scored_as_masks(pair: tuple[str, str], tmp_path: Path) -> None:
    found = scored(*pair, tmp_path / "s.json", Wanted(semantic=True))
    same(found, expected({"pred": [cells(0)]}, Kind(3, by_object=False)))


def test_planes_are_scored_and_drawn(tmp_path: Path) -> None:
    pred, truth = (a[4] for a in cells(5))
    words = store(tmp_path / "p.ome.zarr", pred), store(tmp_path / "t.ome.zarr", truth)
    wanted = Wanted(picture=str(tmp_path / "d.png"))
    found = scored(*words, tmp_path / "s.json", wanted, settings=Settings("none", block=(16, 20)))
    assert found["recall_by_size"]["unit"] == "um2"
    picture = np.asarray(Image.open(tmp_path / "d.png"))
    step = 720 // 44
    for k, colour in (
        ((pred > 0) & (truth > 0), BOTH),
        ((pred > 0) & (truth == 0), PREDICTED),
        ((pred == 0) & (truth > 0), TRUE),
    ):
        for y, x in np.argwhere(k)[:5]:
            assert tuple(picture[24 + y * step + step // 2, 24 + x * step + step // 2]) == colour


def test_the_picture_is_that_of_the_worst_image(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    said: list[Any] = []
    monkeypatch.setattr("cristae.pipeline.evaluated.drawn", lambda *words: said.append(words) or drawn(*words))
    for n, gone in enumerate((0, 8, 4)):
        _, truth = cells(n)
        pred = truth.copy()
        pred[:gone] = 0
        for side, array in (("pred", pred), ("truth", truth)):
            (tmp_path / side).mkdir(exist_ok=True)
            store(tmp_path / side / f"i{n}.ome.zarr", array)
    scored(
        str(tmp_path / "pred"), str(tmp_path / "truth"), tmp_path / "s.json", Wanted(picture=str(tmp_path / "d.png"))
    )
    assert (tmp_path / "d.png").exists()
    assert said[0][2] == "i1" and "lowest of 3" in said[0][3][0]


def test_nothing_at_all_is_drawn_and_said() -> None:
    assert drawn(np.zeros((3, 5, 9), int), (0.1, 0.1), "x", ("nothing",)).shape[2] == 3


# --------------------------------------------------------------------------------------------------------- by column


def truth_table(path: Path, image: str = "pred") -> tuple[np.ndarray, np.ndarray]:
    labels = np.unique(cells(0)[1])[1:]
    radius = np.linspace(0.1, 0.5, len(labels))
    frame = polars.DataFrame({"image": [image] * len(labels), "t": [0] * len(labels), "label": labels, "radius_um": radius,
                              "kind": ["ball" if n % 2 else "tube" for n in range(len(labels))]})  # fmt: skip
    frame.sample(fraction=1.0, shuffle=True, seed=1).write_parquet(path)
    return labels, radius


def test_recall_by_a_column_of_the_truths_table(pair: tuple[str, str], tmp_path: Path) -> None:
    labels, _ = truth_table(tmp_path / "t.parquet")
    found = scored(*pair, tmp_path / "s.json", Wanted(by="kind", table=str(tmp_path / "t.parquet")))
    by = found["recall_by_column"]
    assert by["column"] == "kind"
    assert [(b["from"], b["truths"]) for b in by["bins"]] == [
        ("ball", len(labels) // 2),
        ("tube", -(-len(labels) // 2)),
    ]
    assert sum(b["found"] for b in by["bins"]) == round(found["pooled"]["one_recall"] * len(labels))
    numbers = scored(*pair, tmp_path / "n.json", Wanted(by="radius_um", table=str(tmp_path / "t.parquet")))
    assert len(numbers["recall_by_column"]["bins"]) == 4


def test_the_table_beside_a_label_is_found(tmp_path: Path) -> None:
    pred, truth = cells(0)
    words = store(tmp_path / "p.ome.zarr", pred), store(tmp_path / "c.ome.zarr" / "labels" / "mito", truth)
    (tmp_path / "c.ome.zarr" / "tables" / "mito").mkdir(parents=True)
    truth_table(tmp_path / "c.ome.zarr" / "tables" / "mito" / "table.parquet", "c")
    found = scored(*words, tmp_path / "s.json", Wanted(by="kind"))
    assert sum(b["truths"] for b in found["recall_by_column"]["bins"]) == found["pooled"]["truths"]


def test_true_objects_without_a_row_are_counted_and_said(pair: tuple[str, str], tmp_path: Path) -> None:
    labels, _ = truth_table(tmp_path / "t.parquet")
    some = polars.read_parquet(tmp_path / "t.parquet").filter(polars.col("label").is_in(labels[:2].tolist()))
    some.write_parquet(tmp_path / "two.parquet")
    found = scored(*pair, tmp_path / "s.json", Wanted(by="kind", table=str(tmp_path / "two.parquet")))
    by = found["recall_by_column"]
    assert sum(b["truths"] for b in by["bins"]) == 2 and by["without"] == len(labels) - 2
    shown = CliRunner().invoke(
        app, ["evaluate", *pair, "--by", "kind", "--table", str(tmp_path / "two.parquet"), "--voxel-um", "0.3,0.1,0.1"]
    )
    assert f"{len(labels) - 2} true objects have no row" in shown.output


def test_a_table_of_other_images_is_refused(pair: tuple[str, str], tmp_path: Path) -> None:
    truth_table(tmp_path / "t.parquet")
    mixed = polars.read_parquet(tmp_path / "t.parquet").with_columns(image=polars.lit("a"))
    polars.concat([mixed, mixed.with_columns(image=polars.lit("b"))]).write_parquet(tmp_path / "ab.parquet")
    with pytest.raises(InvalidInput, match="no row of image"):
        scored(*pair, tmp_path / "s.json", Wanted(by="kind", table=str(tmp_path / "ab.parquet")))


def test_the_table_of_objects_is_that_of_every_image(tmp_path: Path) -> None:
    pred, truth = folders(tmp_path, ("a", "b"), 2)
    found = scored(pred, truth, tmp_path / "s.json", Wanted(objects=str(tmp_path / "o.parquet")))
    table = polars.read_parquet(tmp_path / "o.parquet")
    for one in found["images"]:
        rows = table.filter((polars.col("image") == one["image"]) & (polars.col("t") == one["t"]))
        states = dict(rows["state"].value_counts().iter_rows())
        assert states["found"] + states["missed"] == one["truths"]
        assert states["found"] + states["extra"] == one["predictions"]
        assert states["found"] / one["truths"] == one["one_recall"]


# --------------------------------------------------------------------------------------------------------- refusals


def test_what_cannot_be_scored_is_one_sentence(
    pair: tuple[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pred, truth = cells(0)
    out = str(tmp_path / "s.json")

    def refused(
        one: str, other: str, said: str, wanted: Wanted | None = None, kind: type = InvalidInput, name: str = out
    ) -> None:
        with pytest.raises(kind, match=said) as error:
            evaluate_job(one, other, name, PLAIN, wanted)
        assert "\n" not in str(error.value) and not str(error.value).endswith(".")

    refused(pair[0], store(tmp_path / "small.ome.zarr", truth[:4]), "10 x 40 x 44 voxels but .*small.* is 4 x 40 x 44")
    refused(pair[0], store(tmp_path / "film.ome.zarr", truth, truth), "1 time points but .*film.* has 2")
    refused(pair[0], store(tmp_path / "wide.ome.zarr", truth, voxel_um=(0.3, 0.2, 0.1)), "--voxel-um")
    refused(store(tmp_path / "light.ome.zarr", pred.astype(np.float32)), pair[1], "holds float32")
    refused(*pair, ".json or .csv", None, InvalidConfiguration, str(tmp_path / "s.xlsx"))
    refused(*pair, "end it in .png", Wanted(picture="d.jpg"), InvalidConfiguration)
    refused(*pair, "--objects o.txt: a table's", Wanted(objects="o.txt"), InvalidConfiguration)
    refused(*pair, "--objects o.csv is about objects", Wanted(objects="o.csv", semantic=True), InvalidConfiguration)
    refused(*pair, "--table t.csv: say by which", Wanted(table="t.csv"), InvalidConfiguration)
    refused(*pair, "none lies beside the truth", Wanted(by="kind"), InvalidConfiguration)
    refused(*pair, "--semantic is given", Wanted(by="kind", semantic=True), InvalidConfiguration)
    truth_table(tmp_path / "t.parquet")
    refused(
        *pair, "did you mean radius_um", Wanted(by="radius", table=str(tmp_path / "t.parquet")), InvalidConfiguration
    )
    (tmp_path / "bad.parquet").write_text("?")
    refused(*pair, "cannot be read", Wanted(by="kind", table=str(tmp_path / "bad.parquet")))
    refused(*pair, "gone.csv cannot be read", Wanted(by="kind", table=str(tmp_path / "gone.csv")))
    (tmp_path / "nameless.csv").write_text("kind,name\nball,1\n")
    refused(*pair, "no column label", Wanted(by="kind", table=str(tmp_path / "nameless.csv")))
    monkeypatch.setattr(topology, "LARGEST", 1000)
    refused(*pair, "--topology thins an image whole", Wanted(topology=True))
    assert not (tmp_path / ".cristae").exists()


def test_images_without_a_partner_are_named(tmp_path: Path) -> None:
    pred, truth = folders(tmp_path, ("a", "b"))
    store(Path(truth) / "lonely.ome.zarr", cells(1)[1])
    store(Path(pred) / "extra.ome.zarr", cells(1)[0])
    with pytest.raises(
        InvalidInput,
        match=r"truth has no partner of extra and .*pred has no partner of lonely: images are paired by their names",
    ):
        evaluate_job(pred, truth, str(tmp_path / "s.json"), PLAIN)


def test_a_file_that_does_not_open_is_named(tmp_path: Path) -> None:
    pred, truth = folders(tmp_path, ("a", "b"))
    (Path(pred) / "c.tif").write_text("?")
    with pytest.raises(InvalidInput, match=r"c\.tif"):
        evaluate_job(pred, truth, str(tmp_path / "s.json"), PLAIN)


def test_labels_in_a_channel(tmp_path: Path) -> None:
    pred, truth = cells(2)
    tifffile.imwrite(tmp_path / "p.tif", np.stack([np.zeros_like(pred), pred]))
    np.save(tmp_path / "t.npy", truth)
    inputs = Inputs("czyx", VOXEL_UM, channel=1)
    np.save(tmp_path / "t.npy", truth[None])
    found = scored(str(tmp_path / "p.tif"), str(tmp_path / "t.npy"), tmp_path / "s.json", inputs=inputs)
    same(found, expected({"p": [(pred, truth)]}, Kind(3)))
