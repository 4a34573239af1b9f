"""Named: the models that come with cristae, and how a word becomes the path of one: a name, or a file of one's own."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from difflib import get_close_matches
from importlib.resources import files
from pathlib import Path

from cristae.errors import InvalidConfiguration, InvalidInput
from cristae.inference.card import SUFFIX, Card, numbers_in, read_card

FOLDER = Path(str(files("cristae.inference"))) / "shipped"


@dataclass(frozen=True)
class Model:
    """A model as a list shows it."""

    name: str  # the word that calls it
    path: Path
    card: Card
    sha256: str  # of the file
    numbers: int  # that it holds; nearly all are weights
    bytes: int


def names() -> tuple[str, ...]:
    """The names there are."""
    return tuple(sorted(path.name.removesuffix(SUFFIX) for path in FOLDER.glob(f"*{SUFFIX}")))


def is_name(word: str) -> bool:
    """Whether a word can only be a name, or a file without suffix in the working folder: it has no dot and no folder."""
    return word == Path(word).name and "." not in word


def model_path(word: str) -> Path:
    """The file of a model. word : a name, or a path; a name comes first.

    Raises
    ------
    InvalidConfiguration : if it is neither; the nearest name is said, and all of them.
    InvalidInput : if a model of that name is not as it was shipped.
    """
    if word in names():
        return _as_shipped(FOLDER / f"{word}{SUFFIX}")
    path = Path(word)
    if path.exists() or not (is_name(word) or path.suffix == SUFFIX):
        return path  # whoever reads it says what is wrong with it
    raise InvalidConfiguration(f"there is no model {word}{_nearest(path.name.removesuffix(SUFFIX))}")


def _as_shipped(path: Path) -> Path:
    sums = path.with_name("SHA256SUMS")
    lines = sums.read_text(encoding="utf-8").splitlines() if sums.exists() else []
    known = {name: digest for digest, name in (line.split() for line in lines)}
    if path.name in known and hashlib.sha256(path.read_bytes()).hexdigest() != known[path.name]:
        raise InvalidInput(f"{path} is not the file that came with cristae; install cristae again")
    return path


def model_of(word: str) -> Model:
    """What a model says of itself; see `model_path`.

    Raises
    ------
    InvalidConfiguration : if there is none of that name.
    InvalidInput : if the file is no model.
    """
    path = model_path(word)
    card, sha256 = read_card(path)
    return Model(word, path, card, sha256, numbers_in(path), path.stat().st_size)


def models() -> tuple[Model, ...]:
    """All that have a name."""
    return tuple(model_of(name) for name in names())


def _nearest(word: str) -> str:
    known = names()
    if not known:
        return f", and none comes with this cristae; give the path of a {SUFFIX} file"
    near = get_close_matches(word.lower(), known, 1, cutoff=0.5)
    said = f"the nearest is {near[0]}, all are" if near else "there are"
    return f"; {said} {', '.join(known)}; or give the path of a {SUFFIX} file"
