"""Course: what a person wrote to say how a network is trained, validated before anything else happens.

    model:    which network, for what images, and what it is to find
    data:     simulate: scenes made on the fly; or images: and labels: of one's own
    recipe:   loss, rate, and when to stop

A course is a file, or the name of one that comes with cristae: the shipped models were trained by those.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from glob import glob
from importlib.resources import files
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, ValidationError

from cristae.errors import InvalidConfiguration, InvalidInput
from cristae.inference.card import Card
from cristae.inference.examples import Variety
from cristae.inference.named import model_path
from cristae.inference.network import card_of
from cristae.inference.training import Recipe
from cristae.inference.unet import hyper_of
from cristae.pipeline.document import Document, nearest, read, shown
from cristae.pipeline.entries import Entry, Word
from cristae.pipeline.settings import apply_settings
from cristae.pipeline.sources import Picture, Pictures, Simulated, count_of, frames_of
from cristae.simulation.lessons import Lessons, Look, Scenes

Span = Annotated[list[float], Field(min_length=2, max_length=2)]
Whole = Annotated[int, Field(gt=0)]
Sizes = Annotated[list[Whole], Field(min_length=2, max_length=3)]
Um = Annotated[list[Annotated[float, Field(gt=0)]], Field(min_length=2, max_length=3)]
Words = Annotated[list[Word], Field(min_length=1)]


class ModelEntry(Entry):
    """Which network."""

    name: Word | None = Field(None, description="a word, by which the model file is called")
    classes: Words = Field(description="a list of words, what it is to find, such as [mito]")
    voxel_um: Um = Field(description="two or three lengths in um, such as [0.2, 0.1, 0.1]")
    architecture: Word = Field("unet", description="unet, or BasicUNet, DynUNet or FlexibleUNet")
    features: Annotated[list[Whole], Field(min_length=1)] = Field([16, 32, 64], description="channels of each level")
    hyper: dict[str, Any] | None = Field(None, description="keywords of the architecture, where it is not unet")
    normalise: dict[str, Any] = Field(
        {"how": "percentiles", "low": 1, "high": 99.8},
        description="a mapping such as {how: percentiles, low: 1, high: 99.8}",
    )
    activation: Literal["sigmoid", "softmax"] = Field("sigmoid", description="sigmoid or softmax")
    tile: Sizes | None = Field(None, description="voxels that are computed as one when it is used")
    start: Word | None = Field(None, alias="from", description="the path or name of a model to go on from")


class ScenesEntry(Entry):
    """One kind of simulated scene."""

    cells: Word | None = Field(None, description="a preset of cells, as cristae simulate list shows them")
    tiles: Word | None = Field(None, description="a preset of tiles, as cristae simulate list shows them")
    organelle: Word | None = Field(None, description="an organelle of the preset")
    views: Words | None = Field(None, description="of stack, plane and projection")
    change: dict[str, Any] = Field({}, description="a mapping from facts of the preset to others in their place")
    contacts: Annotated[float, Field(ge=0, le=1)] = Field(0.0, description="a part of the objects, 0 to 1")
    crossings: Annotated[float, Field(ge=0, le=1)] = Field(0.0, description="a part of the objects, 0 to 1")
    share: Annotated[float, Field(gt=0)] = Field(1.0, description="a number above 0, how often beside the others")


class LookEntry(Entry):
    """How cameras and stains differ."""

    sbr: Span = Field([2.0, 6.0], description="two numbers, signal over background")
    photons: Span = Field([6.0, 150.0], description="two numbers, photons of the background in a voxel")
    haze: Span = Field([0.0, 1.0], description="two numbers, light far out of focus as a part of the brightest voxel's")
    uneven: Annotated[float, Field(ge=1)] = Field(3.0, description="a factor, 1 or more")
    read_noise: Span = Field([0.0, 3.0], description="two numbers, electrons")
    gain: Span = Field([0.3, 5.0], description="two numbers, counts of an electron")


class SimulateEntry(Entry):
    """Examples made on the fly."""

    scenes: Annotated[list[ScenesEntry], Field(min_length=1)] = Field(description="a list of kinds of scenes")
    look: LookEntry = Field(LookEntry(), description="a mapping such as {sbr: [2, 6]}")
    lessons: Whole = Field(100, description="how many scenes make an epoch")
    exposures: Whole = Field(3, description="how often a scene is exposed")
    crops: Whole = Field(8, description="how many crops are taken from an exposure")
    exam: Whole = Field(20, description="how many other scenes score an epoch")


class VarietyEntry(Entry):
    """How much examples are varied."""

    flips: bool = Field(True, description="true or false")
    brightness: Annotated[float, Field(ge=1)] = Field(1.5, description="a factor, 1 or more")
    shift: Annotated[float, Field(ge=0)] = Field(0.05, description="0 or more")
    noise: Annotated[float, Field(ge=0)] = Field(0.05, description="0 or more")


class DataEntry(Entry):
    """Where examples come from."""

    crop: Sizes = Field(description="voxels that are learned from as one, such as [128, 128]")
    simulate: SimulateEntry | None = Field(None, description="a mapping with scenes")
    images: Word | list[Word] | None = Field(
        None, description="a path, a pattern such as images/*.tif, or a list of them"
    )
    labels: Word | list[Word] | None = Field(None, description="as images, one for each of them in order of names")
    numbers: dict[str, int] | None = Field(None, description="the label of each class, where labels are classes")
    crops: Whole = Field(4, description="how many crops are taken from an image in an epoch")
    split: Annotated[list[float], Field(min_length=3, max_length=3)] = Field(
        [0.6, 0.2, 0.2], description="parts to learn from, to be examined by, and to be tested by at the end"
    )
    axes: Word | None = Field(None, description="letters of the images' axes, such as zyx")
    channel: Word | Annotated[int, Field(ge=0)] | None = Field(None, description="a channel's name or its index from 0")
    vary: VarietyEntry = Field(VarietyEntry(), description="a mapping such as {brightness: 1.5}")


class RecipeEntry(Entry):
    """How it is trained."""

    epochs: Whole = Field(50, description="a whole number above 0")
    batch: Whole = Field(16, description="a whole number above 0")
    loss: Word = Field("dice_focal", description="dice_focal, dice_ce or dice_cldice")
    rate: Annotated[float, Field(gt=0)] = Field(1e-3, description="a number above 0")
    decay: Annotated[float, Field(ge=0)] = Field(0.0, description="0 or more")
    schedule: Word = Field("plateau", description="plateau or cosine")
    patience: Annotated[int, Field(ge=0)] = Field(10, description="epochs without a better score; 0 is never")
    average: Annotated[float, Field(ge=0, lt=1)] = Field(0.0, description="from 0 to below 1")
    frozen: list[Word] = Field([], description="a list of beginnings of weights' names")


class CourseEntry(Entry):
    """A whole course."""

    model: ModelEntry = Field(description="a mapping with classes and voxel_um")
    data: DataEntry = Field(description="a mapping with crop, and simulate or images and labels")
    recipe: RecipeEntry = Field(RecipeEntry(), description="a mapping such as {epochs: 50}")
    seed: Annotated[int, Field(ge=0)] = Field(1, description="a whole number, 0 or more")


ENTRIES = (
    ModelEntry, ScenesEntry, LookEntry, SimulateEntry, VarietyEntry, DataEntry, RecipeEntry, CourseEntry,
)  # fmt: skip


class Course:
    """A validated course: the card of its model, the recipe, and examples to learn from, to be examined and tested by."""

    def __init__(self, entry: CourseEntry, name: str, folder: Path) -> None:
        self.entry, self.name = entry, entry.model.name or name
        self.card = _card(entry, self.name)
        self.recipe = Recipe(**{**entry.recipe.model_dump(), "frozen": tuple(entry.recipe.frozen), "seed": entry.seed})
        self.lessons: Simulated | Pictures
        self.exam: Simulated | Pictures
        self.test: Simulated | Pictures
        if entry.data.simulate is not None:
            self.lessons, self.exam, self.test = _simulated(entry.data, entry.data.simulate, self.card, entry.seed)
        else:
            self.lessons, self.exam, self.test = _pictures(entry, self.card, folder)
        self.start = model_path(entry.model.start) if entry.model.start is not None else None

    @property
    def simulated(self) -> bool:
        """Whether it learns from scenes."""
        return self.entry.data.simulate is not None

    @property
    def tested_on(self) -> str:
        """What the scores in the card are of."""
        kind = f"{'scene' if self.simulated else 'image'}{'s' * (self.test.chunks != 1)}"
        same = not self.simulated and self.test is self.exam
        return f"{self.test.chunks} {kind} {'that also chose the epoch' if same else 'that it never saw'}"


def names() -> tuple[str, ...]:
    """The courses there are."""
    folder = files("cristae.pipeline") / "courses"
    return tuple(sorted(f.name.removesuffix(".yaml") for f in folder.iterdir() if f.name.endswith(".yaml")))


def text_of(name: str) -> str:
    """A course that comes with cristae, as a commented file.

    Raises
    ------
    InvalidConfiguration : if there is none of that name.
    """
    if name not in names():
        raise InvalidConfiguration(f"there is no preset {name} of a training; {nearest(name, names())}")
    return (files("cristae.pipeline") / "courses" / f"{name}.yaml").read_text(encoding="utf-8")


def load_course(word: str, changes: Sequence[str] = (), preset: bool = False) -> Course:
    """A course from a path, or from the name of one that is shipped, with the values of `--set` in place.

    Raises
    ------
    InvalidConfiguration : if it is neither, or the first mistake in it: file, line, and what should be there.
    InvalidInput : if images and labels do not belong together.
    """
    if not preset and not Path(word).is_file():
        other = f"cristae train --preset {word}" if word in names() else f"--preset with one of {', '.join(names())}"
        raise InvalidConfiguration(f"there is no course {word}; give a YAML file, or {other}")
    document = apply_settings(read(text_of(word) if preset else Path(word)), changes, plain=True)
    return Course(_checked(document), word if preset else Path(word).stem, Path(word).parent if not preset else Path())


def _checked(document: Document) -> CourseEntry:
    if not isinstance(document.data, dict):
        raise document.wrong((), "a course is a mapping with model, data and recipe")
    try:
        return CourseEntry.model_validate(document.data)
    except ValidationError as error:
        first = min(error.errors(), key=lambda mistake: mistake["type"] != "extra_forbidden")
    route = _route(document.data, first["loc"])
    key = str(first["loc"][len(route) - 1]) if route else ""
    if first["type"] == "extra_forbidden":
        owner = next(e for e in ENTRIES if key not in e.model_fields and _owns(e, document.at(route[:-1])))
        words = [f.alias or n for n, f in owner.model_fields.items()]
        raise document.wrong(
            route, f"{route[-2] if len(route) > 1 else 'a course'} has no key {key}; {nearest(key, words)}"
        )
    expected = {f.alias or n: f.description for e in ENTRIES for n, f in e.model_fields.items()}
    if first["type"] == "missing":
        missing = str(first["loc"][-1])
        raise document.wrong(route, f"{route[-1] if route else 'a course'} needs {missing}, {expected[missing]}")
    named = next(k for k in reversed(route) if isinstance(k, str))
    raise document.wrong(route, f"{named} should be {expected[named]}, not {shown(document.at(route))}")


def _route(data: Any, loc: Sequence[Any]) -> tuple[str | int, ...]:
    """As far as a place of a mistake is one of the data."""
    route: list[str | int] = []
    for key in loc:
        if not (isinstance(data, dict) and key in data) and not (isinstance(data, list) and isinstance(key, int)):
            break
        data = data[key]
        route.append(key)
    return tuple(route)


def _owns(entry: type[Entry], data: Any) -> bool:
    """Whether a mapping looks like an entry: it shares most keys with it."""
    words = {f.alias or n for n, f in entry.model_fields.items()}
    return isinstance(data, dict) and len(words & set(data)) * 2 >= len(data) - 1


def _card(entry: CourseEntry, name: str) -> Card:
    model = entry.model
    classes = ["ground", *model.classes] if model.activation == "softmax" else model.classes
    if model.architecture == "unet":
        hyper = {**hyper_of(model.voxel_um, model.features, outputs=len(classes)), **(model.hyper or {})}
    elif model.hyper is None:
        raise InvalidConfiguration(f"{name}: architecture {model.architecture} needs hyper, its keywords")
    else:
        hyper = model.hyper
    facts: dict[str, Any] = {} if model.tile is None else {"tile": tuple(model.tile)}
    return card_of(
        model.architecture,
        hyper,
        voxel_um=tuple(model.voxel_um),
        classes=tuple(classes),
        activation=model.activation,
        normalise=model.normalise,
        **facts,
    )


def _simulated(
    data: DataEntry, simulate: SimulateEntry, card: Card, seed: int
) -> tuple[Simulated, Simulated, Simulated]:
    if data.images or data.labels:
        raise InvalidConfiguration("data has simulate beside images or labels; leave one of them out")
    many = [c for c in card.classes if c != "ground"]
    if len(many) > 1:
        raise InvalidConfiguration(f"simulated scenes show one class, not {', '.join(many)}; give images and labels")
    given: dict[str, Any] = {k: tuple(v) if isinstance(v, list) else v for k, v in simulate.look.model_dump().items()}
    scenes = tuple(_scenes(s) for s in simulate.scenes)

    def of(own: int, chunks: int, again: bool, fewer: int = 1) -> Simulated:
        exposures, crops = max(1, simulate.exposures // fewer), max(1, simulate.crops // fewer)
        lessons = Lessons(scenes, tuple(data.crop), card.voxel_um, own, exposures, crops, Look(**given))
        return Simulated(lessons, card, chunks, Variety(**data.vary.model_dump()), again)

    judges = simulate.exam
    # The test sees less of each scene, and more scenes.
    return of(seed, simulate.lessons, False), of(seed + 10_000, judges, True), of(seed + 20_000, 4 * judges, True, 4)


def _scenes(entry: ScenesEntry) -> Scenes:
    if (entry.cells is None) == (entry.tiles is None) or (entry.cells is None) != (entry.organelle is None):
        raise InvalidConfiguration(
            "scenes are of cells, with an organelle, or of tiles; give cells and organelle, or tiles"
        )
    changes = tuple((key, _frozen(value)) for key, value in entry.change.items())
    return Scenes(
        entry.cells or str(entry.tiles),
        entry.organelle or "",
        tuple(entry.views or ()),
        changes,
        entry.contacts,
        entry.crossings,
        entry.share,
    )


def _frozen(value: Any) -> Any:
    if isinstance(value, Mapping):
        return tuple((k, _frozen(v)) for k, v in value.items())
    return tuple(_frozen(v) for v in value) if isinstance(value, list) else value


def _pictures(entry: CourseEntry, card: Card, folder: Path) -> tuple[Pictures, Pictures, Pictures]:
    data = entry.data
    if not data.images:
        raise InvalidConfiguration("data has neither simulate nor images; give one of them")
    wanted = [c for c in card.classes if c != "ground"]
    if len(wanted) > 1 or data.numbers is not None:
        lacking = [c for c in wanted if c not in (data.numbers or {})]
        if lacking:
            raise InvalidConfiguration(
                f"the model is to find {', '.join(wanted)}, and data does not say which label is {lacking[0]}; give "
                f"numbers: {{{', '.join(f'{c}: {n}' for n, c in enumerate(wanted, 1))}}}, say"
            )
    pictures = _paired(data, card.voxel_um, folder)
    parts = [int(p * len(pictures) + 0.5) for p in data.split]
    if abs(sum(data.split) - 1) > 1e-6 or min(data.split[:2]) <= 0 or min(parts[:2]) < 1:
        raise InvalidConfiguration(
            f"split {data.split} of {len(pictures)} images leaves none to learn from or none to be examined by; give parts that "
            "add up to 1, and images enough"
        )
    # Spread evenly, so that neighbours in a folder, which are often alike, are in all parts.
    ranks = [((n * 0.6180339887498949) % 1.0, n) for n in range(len(pictures))]
    order = [n for _, n in sorted(ranks)]
    learn, exam = order[: parts[0]], order[parts[0] : parts[0] + parts[1]]
    test = order[parts[0] + parts[1] :]

    def of(some: Sequence[int], again: bool) -> Pictures:
        return Pictures(
            tuple(pictures[n] for n in sorted(some)),
            card,
            tuple(data.crop),
            data.crops,
            Variety(flips=False, brightness=1, shift=0, noise=0) if again else Variety(**data.vary.model_dump()),
            data.numbers,
            entry.seed,
            again,
        )

    judges = of(exam, True)
    return of(learn, False), judges, of(test, True) if test else judges


def _paired(data: DataEntry, voxel_um: Sequence[float], folder: Path) -> list[Picture]:
    """Images with their labels, in the order of names."""
    images, size = _found(data.images, folder), tuple(voxel_um)
    if data.labels is None:
        if not all(path.endswith(".npz") for path in images):
            raise InvalidConfiguration("data has images and no labels; give labels, or an .npz with image and mask")
        return [Picture(p, p, f"{Path(p).name}:{n}", size, number=n) for p in images for n in range(count_of(p))]
    labels = _found(data.labels, folder)
    if len(images) != len(labels):
        lone = sorted({Path(p).stem for p in images} ^ {Path(p).stem for p in labels})
        raise InvalidInput(
            f"there are {len(images)} images and {len(labels)} labels, and each image needs labels of its own; look at "
            f"{lone[0] if lone else Path(images[-1]).name}"
        )
    stems = [[Path(p).name.split(".")[0] for p in some] for some in (images, labels)]
    apart = [pair for pair in zip(*stems, strict=True) if pair[0] != pair[1]]
    if apart and set(stems[0]) & set(stems[1]):
        raise InvalidInput(
            f"image {apart[0][0]} comes beside labels {apart[0][1]}, though others share their names; give images and labels of the same "
            "names, in one order"
        )
    return [
        Picture(image, mask, f"{Path(image).name}:{t}", size, axes=data.axes, t=t, channel=data.channel)
        for image, mask in zip(images, labels, strict=True)
        for t in range(frames_of(image, mask, data.axes, size))
    ]


def _found(words: str | list[str] | None, folder: Path) -> list[str]:
    """Paths, of patterns in the order of names; relative ones from the folder of the course, or from here."""
    out: list[str] = []
    for word in [words] if isinstance(words, str) else words or []:
        tries = [str(folder / word), word]
        several = next((found for t in tries if (found := sorted(glob(t)))), None)
        if several is None:
            raise InvalidInput(f"data: there is no {word}; give a path, or a pattern such as images/*.tif")
        out += several
    return [str(Path(p).absolute()) for p in out]
