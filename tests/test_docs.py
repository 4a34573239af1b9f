"""Docs: the reference is what the code says, links lead somewhere, examples run.

A block that opens with ```python run is run, all of a page in one namespace, in a folder that holds `cell.tif`, `mask.tif`,
`mito.yaml` of the README, and `cell.ome.zarr` with the labels and the table that it makes. Other blocks are for reading.
"""

from __future__ import annotations

import importlib.util
import re
import shutil
from pathlib import Path
from types import ModuleType
from urllib.parse import unquote

import pytest

ROOT = Path(__file__).resolve().parents[1]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
RUN = re.compile(r"^```python run\n(.*?)^```$", re.MULTILINE | re.DOTALL)
FENCED = re.compile(r"^```.*?^```$", re.MULTILINE | re.DOTALL)
LINK = re.compile(r"\[[^\]]*\]\(([^()\s]+)\)")
HEADING = re.compile(r"^#+ (.+)$", re.MULTILINE)


def module(path: Path) -> ModuleType:
    """A Python file that is in no package."""
    spec = importlib.util.spec_from_file_location(f"_{path.stem}_of_docs", path)
    assert spec is not None and spec.loader is not None
    made = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(made)
    return made


def anchors(text: str) -> set[str]:
    """What a heading is called in a link."""
    bare = (re.sub(r"[^\w\- ]", "", heading.replace("`", "")) for heading in HEADING.findall(FENCED.sub("", text)))
    return {words.lower().replace(" ", "-") for words in bare}


@pytest.fixture(scope="module")
def generate() -> ModuleType:
    return module(ROOT / "docs" / "generate.py")


def test_the_reference_is_what_the_code_says(generate: ModuleType) -> None:
    page = generate.PAGE.read_text(encoding="utf-8")
    assert page == generate.reference(), "run: python docs/generate.py"


def test_the_reference_leaves_nothing_out(generate: ModuleType) -> None:
    import cristae
    from cristae.morphology.columns import COLUMNS
    from cristae.pipeline.operations import PLANNED, parameters, stages
    from cristae_cli.main import app

    text = generate.reference()
    headings = [f"### {name}" for name in cristae.__all__] + [f"### Step {name}" for name in stages()]
    names = [command.callback.__name__ for command in app.registered_commands if command.callback]
    headings += [f"### cristae {name.replace('_', '-')}" for name in names]
    lines = set(text.splitlines())
    assert [h for h in headings if h not in lines] == []
    words = [
        *COLUMNS,
        *PLANNED,
        *(p for name in stages() for p in parameters(name)),
        "--voxel-um",
        "--columns",
        "--fresh",
    ]
    assert [w for w in words if w not in text] == []


def test_a_stale_reference_is_noticed(
    generate: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    page = tmp_path / "reference.md"
    monkeypatch.setattr(generate, "PAGE", page)
    monkeypatch.setattr("sys.argv", ["generate.py", "--check"])
    assert generate.main() == 1, "a page that is not there"
    page.write_text(generate.reference().replace("gaussian", "gausian", 1), encoding="utf-8")
    assert generate.main() == 1
    assert "docs/generate.py" in capsys.readouterr().err
    monkeypatch.setattr("sys.argv", ["generate.py"])
    assert generate.main() == 0
    monkeypatch.setattr("sys.argv", ["generate.py", "--check"])
    assert generate.main() == 0


def test_markdown_of_a_docstring_keeps_its_parts(generate: ModuleType) -> None:
    def documented() -> None:
        """Do 2**3 things to `a*b`.

        Parameters
        ----------
        sigma_um : a width,
            on two lines

        Raises
        ------
        ValueError : if not
        """

    assert [line for line in generate.text(documented) if line] == [
        r"Do 2\*\*3 things to `a*b`.",
        "**Parameters**",
        "- `sigma_um`: a width,",
        "  on two lines",
        "**Raises**",
        "- `ValueError`: if not",
    ]


@pytest.mark.parametrize("page", PAGES, ids=lambda p: p.name)
def test_links_lead_somewhere(page: Path) -> None:
    text = FENCED.sub("", page.read_text(encoding="utf-8"))
    dead = []
    for link in LINK.findall(text):
        place, _, anchor = unquote(link).partition("#")
        if re.match(r"[a-z]+:", place):
            continue
        target = page.parent / place if place else page
        if not target.exists() or (anchor and anchor not in anchors(target.read_text(encoding="utf-8"))):
            dead.append(link)
    assert dead == []


def test_every_page_is_reached_from_the_readme() -> None:
    seen, todo = set(), [PAGES[0]]
    while todo:
        page = todo.pop()
        if page in seen:
            continue
        seen.add(page)
        links = LINK.findall(FENCED.sub("", page.read_text(encoding="utf-8")))
        todo += [p for link in links if (p := (page.parent / link.partition("#")[0]).resolve()) in PAGES]
    assert sorted(p.name for p in set(PAGES) - seen) == []


def test_every_picture_is_shown() -> None:
    shown = "".join(page.read_text(encoding="utf-8") for page in PAGES)
    assert [p.name for p in (ROOT / "docs" / "pictures").iterdir() if p.name not in shown] == []


@pytest.fixture(scope="module")
def bench(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder as the README's commands leave it."""
    import tifffile

    from cristae.pipeline.execute import execute
    from cristae.pipeline.inputs import Inputs
    from cristae.pipeline.job import Settings
    from cristae.pipeline.jobs import convert_job, run_job
    from cristae.pipeline.named import load_pipeline, text_of

    readme = module(ROOT / "tests" / "readme.py")
    folder, here = tmp_path_factory.mktemp("bench"), Settings("none")
    cell = readme.tubes()
    tifffile.imwrite(folder / "cell.tif", cell)
    tifffile.imwrite(folder / "mask.tif", (cell > 500).astype("uint8"))
    (folder / "mito.yaml").write_text(text_of("mitochondria"), encoding="utf-8")
    store = str(folder / "cell.ome.zarr")
    execute(convert_job(str(folder / "cell.tif"), store, Inputs("zyx", (0.3, 0.108, 0.108)), None), here, print)
    execute(run_job(load_pipeline(str(folder / "mito.yaml"), ()), [store], None, Inputs()), here, print)
    return folder


@pytest.mark.parametrize("page", [p for p in PAGES if RUN.search(p.read_text(encoding="utf-8"))], ids=lambda p: p.name)
def test_examples_run(page: Path, bench: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "bench"
    shutil.copytree(bench, folder)
    monkeypatch.chdir(folder)
    names: dict[str, object] = {"__name__": "__main__"}
    text = page.read_text(encoding="utf-8")
    for found in RUN.finditer(text):
        line = text.count("\n", 0, found.start(1))
        exec(compile("\n" * line + found[1], str(page), "exec"), names)


def test_the_examples_are_there_to_be_run() -> None:
    assert sum(len(RUN.findall(page.read_text(encoding="utf-8"))) for page in PAGES) >= 3
