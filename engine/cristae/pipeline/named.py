"""Named: the pipelines that come with cristae, each a commented file, and how a word on the command line becomes one."""

from __future__ import annotations

from collections.abc import Sequence
from importlib.resources import files
from pathlib import Path

from cristae.errors import InvalidConfiguration
from cristae.pipeline.document import nearest
from cristae.pipeline.file import PipelineFile, load
from cristae.pipeline.operations import known


def names() -> tuple[str, ...]:
    """The pipelines there are."""
    folder = files("cristae.pipeline") / "shipped"
    return tuple(sorted(file.name.removesuffix(".yaml") for file in folder.iterdir() if file.name.endswith(".yaml")))


def text_of(name: str) -> str:
    """A shipped pipeline as a commented file.

    Raises
    ------
    InvalidConfiguration : if there is none of that name.
    """
    if name not in names():
        raise InvalidConfiguration(f"there is no pipeline {name}; {nearest(name, names())}")
    return (files("cristae.pipeline") / "shipped" / f"{name}.yaml").read_text(encoding="utf-8")


def load_pipeline(word: str, changes: Sequence[str]) -> PipelineFile:
    """A pipeline file, or one that is shipped, with the values of `--set` in place. A file of that name comes first.

    Raises
    ------
    InvalidConfiguration : if it is neither, or the file is wrong.
    """
    if not Path(word).exists() and word in names():
        return load(Path(str(files("cristae.pipeline") / "shipped" / f"{word}.yaml")), known(), changes)
    if not Path(word).exists() and Path(word).suffix.lower() not in (".yaml", ".yml"):
        raise InvalidConfiguration(
            f"there is no pipeline file {word}, and none of that name is shipped; {nearest(word, names())}"
        )
    return load(Path(word), known(), changes)
