"""The script behind docs/baselines.md: its scores are those of plain sums, its masks those of stages, and a network has a row."""

from __future__ import annotations

import json
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
from skimage.filters import threshold_otsu
from test_docs import ROOT, module


@pytest.fixture(scope="module")
def baselines() -> ModuleType:
    return module(ROOT / "docs" / "baselines.py")


def tiles(many: int = 3) -> list[tuple[np.ndarray, np.ndarray]]:
    """Bright bars on a noisy ground, each tile of its own brightness."""
    found = []
    for n in range(many):
        rng = np.random.default_rng(n)
        truth = np.zeros((256, 256), bool)
        truth[40 + 20 * n : 46 + 20 * n, 30:220] = True
        image = rng.normal(30, 4, truth.shape) + truth * (60 + 30 * n)
        found.append((image.clip(0, 255).astype(np.uint8), truth))
    return found


def test_scores_are_those_of_plain_sums(baselines: ModuleType) -> None:
    some = tiles()
    row = baselines.scored("Otsu", baselines.otsu(), some)
    ious, counts = [], np.zeros(4)
    for image, truth in some:
        mask = image > threshold_otsu(image)
        tp, fp, fn, tn = ((mask & truth).sum(), (mask & ~truth).sum(), (~mask & truth).sum(), (~mask & ~truth).sum())
        ious.append((tp / (tp + fp + fn) + tn / (tn + fp + fn)) / 2)
        counts += tp, fp, fn, tn
    assert row["mean"]["mIOU_fgbg"] == pytest.approx(np.mean(ious))
    assert row["pooled"]["dice"] == pytest.approx(2 * counts[0] / (2 * counts[0] + counts[1] + counts[2]))
    assert baselines.overall(baselines.otsu(), some) == pytest.approx(np.mean(ious))
    assert row["name"] in baselines.line(row) and f"{np.mean(ious):.3f}" in baselines.line(row)


def test_every_method_finds_bars(baselines: ModuleType) -> None:
    some = tiles()
    for method, settings in (
        ("best level", {"value": 60, "sigma_px": 1.0}),
        ("adaptive", {"side_px": 51, "offset": 15.0}),
        ("Frangi and labels", {"radii_px": (2.0, 3.0), "gamma": 20.0, "cut": "otsu"}),
        ("MorphoLibJ-style", {"edges_px": 1.5, "tolerance": 20.0, "sigma_px": 1.0}),
    ):
        assert baselines.overall(baselines.METHODS[method](**settings), some) > 0.75, method


def test_a_setting_is_chosen_on_other_tiles_than_those_that_are_scored(
    baselines: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(baselines, "FIXED", ())
    monkeypatch.setattr(baselines, "CHOSEN", {"level": ("best level", {"value": (10, 60, 200)})})
    image, truth = tiles(1)[0]
    (row,) = baselines.classical([(image, ~truth)], [(image, truth)])
    assert row["settings"] == {"value": 60} and row["mean"]["dice"] < 0.1


def test_a_network_has_a_row_beside_those_that_are_there(
    baselines: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("torch")
    from inference.models import tiny

    path = tiny(2, voxel_um=(0.08, 0.08))
    (tmp_path / "physeg-sim").mkdir()
    some = tiles(2)
    arrays = {"image": np.stack([i for i, _ in some]), "mask": np.stack([t for _, t in some])}
    np.savez(tmp_path / "physeg-sim" / "val.npz", **arrays)
    kept = baselines.scored("Otsu", baselines.otsu(), some) | {"kind": "fixed", "settings": {}, "what": "Otsu"}
    for name in ("RESULTS", "PAGE", "PICTURE"):
        monkeypatch.setattr(baselines, name, tmp_path / name)
    (tmp_path / "RESULTS").write_text(json.dumps({"rows": [kept]}))
    monkeypatch.setattr("sys.argv", ["baselines.py", str(tmp_path), "--model", path])
    for _ in range(2):  # once more replaces it
        baselines.main()
    rows = json.loads((tmp_path / "RESULTS").read_text())["rows"]
    assert [row["kind"] for row in rows] == ["fixed", "network"] and rows[0]["mean"] == kept["mean"]
    assert Path(path).stem in (tmp_path / "PAGE").read_text()
