"""`flatfield`: a vignetted batch comes out as evenly lit ones do, by an image of the light or by what the fields share."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import polars
import pytest
import tifffile
from pipeline.test_job import done, labels_of, store, voxels

from cristae.errors import InvalidConfiguration, InvalidInput, PlanRefused
from cristae.grid import Box
from cristae.pipeline.file import load
from cristae.pipeline.inputs import Inputs
from cristae.pipeline.job import Job, Settings
from cristae.pipeline.jobs import run_job
from cristae.pipeline.operations import known
from cristae.pipeline.preview import preview
from cristae.store.flat import flat_of
from cristae.store.volume import open_volume

SHAPE = (4, 96, 80)
DARK = 100
FIELDS = 15
STEPS = (
    "output: {{name: spots}}\nsteps:\n{step}  - threshold: {{value: 900}}\n  - label\n  - measure: [shape, intensity]\n"
)
BY_IMAGE = "  - flatfield: {image: light.tif, offset: 100}\n"
BY_FIELDS = "  - flatfield: {of: fields, offset: 100}\n"


def light() -> np.ndarray:
    """A third as bright in the corners as in the middle."""
    y, x = (np.linspace(-1, 1, n) for n in SHAPE[-2:])
    found = 1 - 0.35 * (y[:, None] ** 2 + x[None] ** 2)
    return found / found.mean()


def even(seed: int) -> np.ndarray:
    return 4 * np.clip(voxels(seed, SHAPE) - 1500.0, 0, None) + 300


@pytest.fixture(scope="module")
def fields(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("flat")
    for n in range(FIELDS):
        store(folder / "in" / f"field{n}.ome.zarr", np.round(even(n) * light() + DARK).astype(np.uint16))
    tifffile.imwrite(folder / "light.tif", np.round(2000 * light() + DARK).astype(np.uint16))
    return folder


def job(folder: Path, step: str, out: str, inputs: Inputs | None = None, source: str = "in") -> Job:
    pipeline = folder / f"{out}.yaml"
    pipeline.write_text(STEPS.format(step=step))
    return run_job(load(pipeline, known()), [str(folder / source)], str(folder / out), inputs or Inputs())


@pytest.mark.parametrize("block", [SHAPE, (3, 40, 33)])
@pytest.mark.parametrize(("step", "left"), [(BY_IMAGE, 0.03), (BY_FIELDS, 0.5)])
def test_vignetted_fields_give_the_objects_of_even_ones(
    fields: Path, block: tuple[int, ...], step: str, left: float
) -> None:
    out = f"{'image' if 'image' in step else 'fields'}-{block[0]}"
    done(job(fields, step, out), Settings("none", block=block))
    found = [labels_of(fields / out / "labels" / f"field{n}.ome.zarr") > 0 for n in range(FIELDS)]
    truth = [even(n) > 900 for n in range(FIELDS)]
    uneven = [even(n) * light() > 900 for n in range(FIELDS)]
    off, before = (sum(np.count_nonzero(a ^ b) for a, b in zip(some, truth, strict=True)) for some in (found, uneven))
    assert off <= left * before and before > 0.05 * np.count_nonzero(truth)
    assert "flatfield" in (fields / out / "methods.md").read_text()
    table = polars.read_parquet(fields / out / "objects.parquet")
    first = table.filter((polars.col("image") == "field0") & (polars.col("label") == 1))
    raw = np.round(even(0) * light() + DARK)
    assert first["intensity_max"].item() in raw  # of the raw image, never of a filter


def test_what_the_fields_share_is_one_answer_for_any_grid_and_cluster(fields: Path) -> None:
    results = []
    for n, settings in enumerate(
        [
            Settings("none", block=(4, 96, 80)),
            Settings("threads:2", block=(6, 17, 29)),
            Settings("local:2", block=(2, 96, 41)),
        ]
    ):
        done(job(fields, BY_FIELDS, f"grid{n}"), settings)
        results.append([labels_of(fields / f"grid{n}" / "labels" / f"field{k}.ome.zarr") for k in range(FIELDS)])
    for other in results[1:]:
        np.testing.assert_array_equal(np.stack(results[0]), np.stack(other))


def test_a_new_field_would_change_the_light_of_all(tmp_path: Path) -> None:
    for n in range(3):
        store(tmp_path / "in" / f"field{n}.ome.zarr", np.round(even(n) * light() + DARK).astype(np.uint16))
    done(job(tmp_path, BY_FIELDS, "out"), Settings("none"))
    store(tmp_path / "in" / "field3.ome.zarr", np.full(SHAPE, 4000, np.uint16))
    with pytest.raises(PlanRefused, match=r"its light is pooled over all of them; .*--fresh"):
        done(job(tmp_path, BY_FIELDS, "out"), Settings("none"))


def test_a_crop_takes_its_part_of_the_light(fields: Path) -> None:
    crop = {"y": (20, 90), "x": (41, 80)}
    done(job(fields, BY_IMAGE, "whole"), Settings("none"))
    done(job(fields, BY_IMAGE, "crop", Inputs(crop=crop)), Settings("none"))
    for n in range(FIELDS):
        whole, part = (labels_of(fields / o / "labels" / f"field{n}.ome.zarr") > 0 for o in ("whole", "crop"))
        both = whole[:, 20:90, 41:80] & part
        assert np.count_nonzero(both) > 0.98 * np.count_nonzero(part)  # objects below min_voxels differ at its border


def test_a_projection_is_lit_as_its_planes(fields: Path) -> None:
    done(job(fields, "  - project: max\n" + BY_IMAGE, "flat"), Settings("none"))
    found = labels_of(fields / "flat" / "labels" / "field0.ome.zarr") > 0
    truth = even(0).max(axis=0) > 900
    assert np.count_nonzero(found & ~truth) <= 0.002 * truth.size


def test_a_flat_of_each_channel(tmp_path: Path) -> None:
    image = open_volume(store(tmp_path / "two.ome.zarr", np.zeros((2, *SHAPE), np.uint16), axes="czyx"))
    lights = np.stack([1000 * light(), 1000 * light()[::-1]]).astype(np.float32)
    np.save(tmp_path / "light.npy", lights)
    flat = flat_of(str(tmp_path / "light.npy"), image, None, 0.0)
    for c in range(2):
        seen = flat.read(Box.whole(SHAPE), c=c)
        np.testing.assert_allclose(seen, np.broadcast_to(lights[c] / lights[c].mean(), SHAPE), rtol=1e-5)


def test_a_preview_shows_it_or_says_that_it_cannot(fields: Path) -> None:
    volume = open_volume(fields / "in" / "field0.ome.zarr")
    panels = {}
    for name, step in (("by image", BY_IMAGE), ("by fields", BY_FIELDS), ("plain", "")):
        path = fields / f"{name}.yaml"
        cut = 900 + DARK * (name == "plain")  # what is dark is taken away even where the light is not known
        path.write_text(STEPS.format(step=step).replace("900", str(cut)))
        (panels[name],) = preview({name: load(path, known())}, volume, None)
    assert "without flatfield" in panels["by fields"].setting
    assert "without" not in panels["by image"].setting
    assert (panels["by fields"].objects, panels["by fields"].size) == (panels["plain"].objects, panels["plain"].size)
    assert panels["by image"].size != panels["plain"].size


@pytest.mark.parametrize(
    ("step", "error", "said"),
    [
        ("flatfield: {}", InvalidConfiguration, "either image: FILE or of: fields"),
        ("flatfield: {image: light.tif, of: fields}", InvalidConfiguration, "not both"),
        ("flatfield: {of: plates}", InvalidConfiguration, "the one choice is fields"),
        ("flatfield: {image: light.tif, offset: dark}", InvalidConfiguration, "offset is 'dark'"),
        ("flatfield: {image: light.tif, offset: 9000}", InvalidInput, "no brighter than the offset of 9000"),
        ("flatfield: {image: absent.tif}", InvalidInput, "absent.tif"),
        ("flatfield: {image: nan.npy}", InvalidInput, "NaN or infinite pixels"),
        ("flatfield: {image: small.tif}", InvalidInput, "is 9 x 9 pixels but .*same camera"),
        ("flatfield: {image: stack.tif}", InvalidInput, "several planes"),
        ("flatfield: {image: many.npy}", InvalidInput, "3 channels but"),
    ],
)
def test_bad_words_and_files_are_one_sentence(fields: Path, step: str, error: type[Exception], said: str) -> None:
    np.save(fields / "nan.npy", np.full(SHAPE[-2:], np.nan, np.float32))
    tifffile.imwrite(fields / "small.tif", np.ones((9, 9), np.uint16))
    tifffile.imwrite(fields / "stack.tif", np.ones((4, *SHAPE[-2:]), np.uint16), imagej=True, metadata={"axes": "ZYX"})
    np.save(fields / "many.npy", np.ones((3, *SHAPE[-2:]), np.uint16))
    with pytest.raises(error, match=said):
        job(fields, f"  - {step}\n", "bad")


def test_a_light_of_other_pixels_is_doubted(fields: Path, recwarn: pytest.WarningsRecorder) -> None:
    image = open_volume(fields / "in" / "field0.ome.zarr")
    y, _ = image.voxel_um[-2:]
    for factor, doubted in ((1.0, False), (4.0, True)):
        path, across = fields / f"light{factor:g}.tif", 1e4 / (y * factor)
        tifffile.imwrite(path, light().astype("f4"), resolution=(across, across), resolutionunit="CENTIMETER")
        recwarn.clear()
        flat_of(str(path), image, None, 0)
        assert ["of the same objective" in str(w.message) for w in recwarn] == [True] * doubted


def test_one_field_has_nothing_in_common_with_others(fields: Path) -> None:
    with pytest.raises(InvalidConfiguration, match=r"wants 3 images or time points .* has 1; .*image: FILE"):
        job(fields, BY_FIELDS, "one", source="in/field0.ome.zarr")


def test_an_offset_above_the_fields_is_refused_and_one_near_them_doubted(fields: Path) -> None:
    with pytest.raises(InvalidInput, match=r"no brighter than the offset of 9000.*lower offset"):
        done(job(fields, BY_FIELDS.replace("100", "9000"), "above"), Settings("none"))
    with pytest.warns(UserWarning, match=r"all but dark in \d+ of \d+ squares"):
        done(job(fields, BY_FIELDS.replace("100", "300"), "near"), Settings("none"))


def test_fields_of_two_cameras_do_not_share_a_light(tmp_path: Path) -> None:
    for n, shape in enumerate([SHAPE, SHAPE, (4, 96, 70)]):
        store(tmp_path / "in" / f"field{n}.ome.zarr", np.ones(shape, np.uint16))
    with pytest.raises(
        InvalidConfiguration, match=r"wants fields of one size, and .*field2.* is 96 x 70 pixels but .*field0.* 96 x 80"
    ):
        job(tmp_path, BY_FIELDS, "out")


def test_two_flatfields_are_one_too_many(fields: Path) -> None:
    with pytest.raises(InvalidConfiguration, match="two flatfield steps"):
        job(fields, BY_IMAGE + BY_FIELDS, "two")


def test_another_light_is_another_run(fields: Path, tmp_path: Path) -> None:
    store(tmp_path / "in" / "field0.ome.zarr", np.round(even(0) * light() + DARK).astype(np.uint16))
    tifffile.imwrite(tmp_path / "light.tif", np.round(2000 * light() + DARK).astype(np.uint16))
    done(job(tmp_path, BY_IMAGE, "out"), Settings("none"))
    assert done(job(tmp_path, BY_IMAGE, "out"), Settings("none"))[0].status == "nothing to do"
    tifffile.imwrite(tmp_path / "light.tif", np.full(SHAPE[-2:], 900, np.uint16))
    with pytest.raises(PlanRefused, match=r"spots/flatfield beside the input field0 changed since.*--fresh"):
        done(job(tmp_path, BY_IMAGE, "out"), Settings("none"))


def test_a_kept_result_is_that_of_its_light(tmp_path: Path) -> None:
    store(tmp_path / "in" / "field0.ome.zarr", np.round(even(0) * light() + DARK).astype(np.uint16))
    kept = BY_IMAGE.rstrip() + "\n    keep: true\n"
    for bright in (light(), light()[::-1] ** 3):
        tifffile.imwrite(tmp_path / "light.tif", np.round(2000 * bright + DARK).astype(np.uint16))
        for out in ("out", str(bright[0, 0])):
            done(job(tmp_path, kept, out), Settings("none", fresh=True))
        ours, theirs = (labels_of(tmp_path / o / "labels" / "field0.ome.zarr") for o in ("out", str(bright[0, 0])))
        np.testing.assert_array_equal(ours, theirs)
