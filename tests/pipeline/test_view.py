"""The page of `view`: what it is told, who may ask, and a person's clicks, in a real browser where there is one."""

from __future__ import annotations

import json
import shutil
import signal
import subprocess
import sys
import threading
import urllib.error
import urllib.request
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import polars
import pytest
from pipeline.test_job import MAIN, VOXEL_UM, done, expected, main_job, store, voxels
from typer.testing import CliRunner

from cristae.errors import InvalidConfiguration, InvalidInput, UsageError
from cristae.pipeline.file import load
from cristae.pipeline.inputs import Inputs
from cristae.pipeline.job import Settings
from cristae.pipeline.jobs import run_job
from cristae.pipeline.operations import known
from cristae.pipeline.serving import address_of, server_of
from cristae.pipeline.viewing import View, column, plane, row, views
from cristae_cli.main import app

BROWSER, DRIVER = shutil.which("chromium"), shutil.which("chromedriver")
QUIET = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-sync",
)


def test_a_run_without_labels_says_so(tmp_path: Path) -> None:
    cell = store(tmp_path / "cell.ome.zarr", voxels())
    (tmp_path / "p.yaml").write_text("output: {name: smooth}\nsteps:\n  - gaussian: {sigma_um: 0.3}\n")
    done(run_job(load(tmp_path / "p.yaml", known()), [str(cell)], str(tmp_path / "out"), Inputs()), Settings("none"))
    with pytest.raises(InvalidInput, match=r"holds no labels: its steps end in an image; look at .*cell"):
        views(str(tmp_path / "out"))
    assert "smooth was computed from the one channel" in (tmp_path / "out" / "methods.md").read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def out(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("view")
    cell = store(folder / "cell.ome.zarr", np.stack([voxels(0), voxels(1)]), axes="tzyx", frame_interval_s=2.0)
    done(main_job(cell, folder / "out"), Settings("none"))
    return folder / "out"


@pytest.fixture(scope="module")
def page(out: Path) -> Iterator[str]:
    with server_of(views(str(out))) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield address_of(server)
        server.shutdown()


def got(address: str, **headers: str) -> Any:
    return urllib.request.urlopen(urllib.request.Request(address, headers=headers), timeout=10)


def slices(address: str, axis: str, index: int, frame: int) -> tuple[np.ndarray, np.ndarray]:
    with got(f"{address}plane?view=0&axis={axis}&index={index}&frame={frame}") as answer:
        rows, columns = map(int, answer.headers["X-Shape"].split(","))
        body = answer.read()
    image = np.frombuffer(body, np.uint8, rows * columns).reshape(rows, columns)
    return image, np.frombuffer(body, "<u4", offset=len(body) - 4 * rows * columns).reshape(rows, columns)


def test_slices_are_those_of_the_volume_and_the_table_is_the_runs(page: str, out: Path) -> None:
    for frame in range(2):
        ids = expected(voxels(frame))
        for axis, at in (("z", 5), ("y", 21), ("x", 17)):
            grey, labels = slices(page, axis, at, frame)
            np.testing.assert_array_equal(labels, ids.take(at, "zyx".index(axis)))
            raw = voxels(frame).take(at, "zyx".index(axis)).astype(float)
            assert np.corrcoef(np.minimum(raw, np.quantile(raw, 0.99)).ravel(), grey.ravel())[0, 1] > 0.95
        _, seen = slices(page, "max", 0, frame)
        assert set(np.unique(seen)) <= set(np.unique(ids)) and seen.any()
    table = polars.read_parquet(out / "objects.parquet").filter(polars.col("t") == 1)
    with got(f"{page}row.json?view=0&frame=1&label=2") as answer:
        assert json.loads(answer.read())["voxels"] == table.filter(polars.col("label") == 2)["voxels"].item()
    with got(f"{page}column?view=0&frame=1&name=voxels") as answer:
        body = answer.read()
    half = len(body) // 2
    assert np.frombuffer(body[:half], "<u4").tolist() == table["label"].to_list()
    assert np.frombuffer(body[half:], "<f4").tolist() == table["voxels"].to_list()


def test_a_projection_and_slices_of_a_coarser_level_agree_with_level_0(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    big = np.kron(voxels(3), np.ones((1, 16, 16), np.uint16))
    done(main_job(store(tmp_path / "cell.ome.zarr", big), tmp_path / "out"), Settings("none", block=(12, 160, 352)))
    (view,) = views(str(tmp_path / "out"))
    fine = plane(view, "z", 4, 0)
    monkeypatch.setattr("cristae.pipeline.viewing.SCREEN", 360)
    coarse = plane(view, "z", 4, 0)
    assert coarse[0].shape == coarse[1].shape and max(coarse[1].shape) <= 360 < max(fine[1].shape)
    assert set(np.unique(coarse[1])) <= set(np.unique(fine[1])) and coarse[1].any()
    shutil.rmtree(tmp_path / "cell.ome.zarr")
    (bare,) = views(str(tmp_path / "out"))  # the raw voxels are gone: labels alone
    assert bare.image is None and not plane(bare, "z", 4, 0)[0].any() and plane(bare, "max", 0, 0)[1].any()


def test_a_plane_image_is_its_own_slice(tmp_path: Path) -> None:
    flat = voxels()[6]
    np.save(tmp_path / "field.npy", flat)
    text = MAIN.replace("surface, topology, ", "").replace("surface, ", "")
    sized = Inputs(axes="yx", voxel_um=VOXEL_UM[1:])
    done(run_job(load(text, known()), [str(tmp_path / "field.npy")], str(tmp_path / "out"), sized), Settings("none"))
    (view,) = views(str(tmp_path / "out"))
    assert plane(view, "z", 0, 0)[1].shape == flat.shape == plane(view, "max", 0, 0)[1].shape
    with pytest.raises(InvalidInput, match="no slice 0 across y"):
        plane(view, "y", 0, 0)


@pytest.mark.parametrize("keep", ["", "\n    keep: true"])
def test_the_channel_shown_is_the_one_the_object_was_made_from(tmp_path: Path, keep: str) -> None:
    cell = store(tmp_path / "cell.ome.zarr", np.stack([voxels(1), voxels(0)]), axes="czyx")
    text = f"channel: 1\noutput: {{name: mito}}\nsteps:\n  - gaussian: {{sigma_um: 0.12}}{keep}\n  - threshold: {{method: otsu}}\n  - label\n"
    done(main_job(cell, tmp_path / "out", text=text), Settings("none", block=(5, 17, 44)))
    (view,) = views(str(tmp_path / "out"))
    np.testing.assert_array_equal(plane(view, "z", 5, 0)[1] > 0, expected(voxels(0))[5] > 0)
    grey = [plane(replace(view, channel=c), "z", 5, 0)[0] for c in range(2)]
    np.testing.assert_array_equal(plane(view, "z", 5, 0)[0], grey[1])
    assert (grey[0] != grey[1]).any()


def test_nobody_else_may_ask_and_nothing_is_fetched_from_elsewhere(page: str, out: Path) -> None:
    with pytest.raises(urllib.error.HTTPError, match="403"):
        got(page, Host="example.org")
    with got(page, Host="localhost:1") as answer:
        policy, text = answer.headers["Content-Security-Policy"], answer.read().decode()
    assert "default-src 'none'" in policy and "connect-src 'self'" in policy
    assert "http://" not in text and "https://" not in text and "src=" not in text
    for path in (
        "nothing",
        "plane?view=7&axis=z&index=0&frame=0",
        "plane?view=0&axis=z&index=999&frame=0",
        "plane?view=0&axis=q",
    ):
        with pytest.raises(urllib.error.HTTPError, match="404"):
            got(page + path)
    with pytest.raises(urllib.error.HTTPError, match="404"):
        got(f"{page}column?view=0&frame=0&name=image")
    with server_of(()) as server:
        assert server.server_address[0] == "127.0.0.1"
        with pytest.raises(InvalidConfiguration, match="--port"):
            server_of((), server.server_address[1])


def test_wrong_words_are_one_sentence(out: Path, tmp_path: Path) -> None:
    (view,) = views(str(out))
    assert isinstance(view, View) and row(view, 0, 10**6) == {}
    with pytest.raises(InvalidInput, match="no column colour of numbers"):
        column(view, 0, "colour")
    found = CliRunner().invoke(app, ["view", str(out), "--colour", "volum"])
    assert isinstance(found.exception, UsageError) and "column; did you mean volume_um3" in str(found.exception)
    assert isinstance(CliRunner().invoke(app, ["view", str(tmp_path)]).exception, InvalidInput)


def test_the_command_says_where_the_page_is_and_ends_when_told(out: Path) -> None:
    words = [
        sys.executable,
        "-c",
        "from cristae_cli.main import main; main()",
        "view",
        str(out),
        "--no-browser",
        "--page",
    ]
    with subprocess.Popen([*words, "--colour", "voxels"], stdout=subprocess.PIPE, text=True) as ours:
        assert ours.stdout is not None
        address = ours.stdout.readline().strip()
        assert address.startswith("http://127.0.0.1:") and address.endswith("/?colour=voxels")
        with got(address) as answer:
            assert b"cristae view" in answer.read()
        ours.send_signal(signal.SIGINT)
        assert ours.wait(20) == 0


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    if BROWSER is None or DRIVER is None:
        pytest.skip("no chromium and chromedriver here")
    from selenium import webdriver

    options = webdriver.ChromeOptions()
    options.binary_location = BROWSER
    for word in (*QUIET, "--window-size=1280,800", f"--user-data-dir={tmp_path_factory.mktemp('chromium')}"):
        options.add_argument(word)
    driver = webdriver.Chrome(options=options, service=webdriver.ChromeService(DRIVER))
    yield driver
    driver.quit()


def body(browser: Any, name: str) -> str | None:
    found: str | None = browser.find_element("tag name", "body").get_attribute(f"data-{name}")
    return found


def until(browser: Any, name: str, value: str) -> None:
    from selenium.webdriver.support.ui import WebDriverWait

    WebDriverWait(browser, 20).until(lambda b: body(b, name) == value)


def move(browser: Any, control: str, value: str, event: str) -> None:
    """Set a control as a person does, and tell the page."""
    browser.execute_script(
        "const e = document.getElementById(arguments[0]); e.value = arguments[1]; e.dispatchEvent(new Event(arguments[2]))",
        control, value, event,
    )  # fmt: skip


def drawn(browser: Any) -> np.ndarray:
    """The canvas, (y, x, 4)."""
    flat, rows, columns = browser.execute_script(
        "const c = document.getElementById('canvas'); "
        "return [Array.from(c.getContext('2d').getImageData(0, 0, c.width, c.height).data), c.height, c.width]"
    )
    return np.array(flat, np.uint8).reshape(rows, columns, 4)


def test_slider_colour_and_click_in_a_browser(browser: Any, page: str, out: Path) -> None:
    from selenium.webdriver.common.action_chains import ActionChains

    browser.get(page)
    depth = voxels().shape[0]
    until(browser, "drawn", f"z/{(depth - 1) // 2}/0")
    ids = expected(voxels(0))
    at = int(np.argmax((ids > 0).sum(axis=(1, 2))))
    move(browser, "index", str(at), "input")
    until(browser, "drawn", f"z/{at}/0")
    picture = drawn(browser)
    assert picture.shape[:2] == ids.shape[1:] and (picture[..., 3] == 255).all()
    coloured = np.ptp(picture[..., :3].astype(int), axis=2) > 30
    assert coloured.any() and (ids[at][coloured] > 0).all()  # outlines, and nothing but objects
    move(browser, "how", "fill", "change")
    assert (np.ptp(drawn(browser)[..., :3].astype(int), axis=2) > 8).sum() > coloured.sum()

    before = drawn(browser)
    move(browser, "colour", "volume_um3", "change")
    until(browser, "colour", "volume_um3")
    assert (drawn(browser) != before).any() and "um3" in browser.find_element("id", "about").text

    label = int(ids[at].ravel()[np.flatnonzero(ids[at])[len(np.flatnonzero(ids[at])) // 2]])
    y, x = np.argwhere(ids[at] == label)[0]
    canvas = browser.find_element("id", "canvas")
    width, height = canvas.size["width"], canvas.size["height"]
    rows, columns = ids[at].shape
    ActionChains(browser).move_to_element_with_offset(
        canvas, (x + 0.5) / columns * width - width / 2, (y + 0.5) / rows * height - height / 2
    ).click().perform()
    until(browser, "picked", str(label))
    table = polars.read_parquet(out / "objects.parquet").filter(polars.col("t") == 0, polars.col("label") == label)
    shown = {row.text.split()[0]: row.text.split()[-1] for row in browser.find_elements("css selector", "#row tr")}
    assert shown["label"] == str(label) and shown["voxels"] == str(table["voxels"].item())
    assert float(shown["volume_um3"]) == pytest.approx(table["volume_um3"].item(), rel=1e-5)

    move(browser, "axis", "max", "change")
    until(browser, "drawn", f"max/{0}/0")
    move(browser, "frame", "1", "input")
    until(browser, "drawn", "max/0/1")
    assert not browser.find_element("id", "wrong").text
    sources = browser.execute_script("return performance.getEntriesByType('resource').map(e => e.name)")
    assert sources and all(s.startswith(page) for s in sources)
