"""Entries: the keys of a pipeline file as frozen models, and the one sentence about a key that is wrong.

The description of a field is what the sentence says the key should be. Nothing here knows an operation.
"""

from __future__ import annotations

from typing import Annotated, Any, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from cristae.errors import InvalidConfiguration
from cristae.pipeline.document import Document, Route, nearest, shown


class Entry(BaseModel):
    """A mapping with no keys but these, and no value turned into another type."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False)


Word = Annotated[str, Field(min_length=1)]
Words = Word | Annotated[list[Word], Field(min_length=1)]
Length = Annotated[float, Field(ge=0)]


class ObjectEntry(Entry):
    """One object under `objects`."""

    channel: Word | Annotated[int, Field(ge=0)] | None = Field(None, description="a channel's name or its index from 0")
    steps: list[dict[str, Any]] = Field(min_length=1, description="a list of at least one step")
    within: Word | None = Field(None, description="the name of another object")


class OutputEntry(Entry):
    """What the one object of a short file is called."""

    name: Word = Field(description="a word that names the labels and the table")


class FileEntry(Entry):
    """A file with objects by name."""

    input: Words | None = Field(None, description="a path or a list of paths")
    objects: dict[str, ObjectEntry] = Field(min_length=1, description="a mapping of at least one object by its name")


class ShortEntry(ObjectEntry):
    """A file with one object."""

    input: Words | None = Field(None, description="a path or a list of paths")
    output: OutputEntry | None = Field(None, description="a mapping such as {name: mito}")


class StepEntry(Entry):
    """The words of a step that are no parameters."""

    source: Word | None = Field(None, alias="from", description="the as: of an earlier step, or input")
    label: Word | None = Field(None, alias="as", description="a word that later steps may work from")
    keep: bool = Field(False, description="true or false")


class PythonEntry(Entry):
    """A function of the user's own as a step. How far it looks must be said: a wrong halo shows in the result."""

    file: Word = Field(description="the path of a Python file")
    function: Annotated[str, Field(pattern=r"^[^\W\d]\w*$")] = Field(description="the name of a function in that file")
    returns: Word = Field("probability", description="probability, mask or labels")
    halo_um: Length | Annotated[list[Length], Field(min_length=2, max_length=3)] | None = Field(
        None,
        description="how far the function looks beyond a voxel in um, one number or one for each axis, 0 for not at all",
    )
    tile: Annotated[list[Annotated[int, Field(gt=0)]], Field(min_length=2, max_length=3)] | None = Field(
        None, description="whole numbers of voxels such as [32, 128, 128], which the function is shown at once"
    )
    overlap: Annotated[float, Field(ge=0, lt=1)] | None = Field(
        None, description="a share of a tile, from 0 to below 1"
    )
    blend: Word = Field("gaussian", description="gaussian, hann or crop")
    version: Word | float | None = Field(None, description="a word or a number that changes when the function does")
    params: dict[str, Any] | None = Field(None, description="a mapping of the function's own parameters")


MODELS: tuple[type[Entry], ...] = (FileEntry, ShortEntry, OutputEntry, StepEntry, PythonEntry)
EXPECTED = {field.alias or name: field.description for model in MODELS for name, field in model.model_fields.items()}
"""What each key of the format should be."""

Model = TypeVar("Model", bound=Entry)


def checked(model: type[Model], document: Document, route: Route, data: Any) -> Model:
    """`data`, which stands at `route`, as a model.

    Raises
    ------
    InvalidConfiguration : one sentence about the first mistake; an unknown key comes before what it leaves out.
    """
    try:
        return model.model_validate(data)
    except ValidationError as error:
        mistakes = error.errors()
    first = min(mistakes, key=lambda mistake: mistake["type"] != "extra_forbidden")
    if first["type"] == "extra_forbidden":
        raise _unknown(model, document, (*route, *first["loc"]))
    if first["type"] == "missing":
        *owner, key = *route, *first["loc"]
        other = " (or objects, each with its own)" if model is ShortEntry and key == "steps" else ""
        raise document.wrong(tuple(owner), f"{_called(tuple(owner))} needs {key}, {EXPECTED[str(key)]}{other}")
    # Where a value may be of several types, the location goes on with types; it is ours as far as the data has it.
    where, value = list(route), data
    for key in first["loc"]:
        if not isinstance(value, dict) or key not in value:
            break
        where, value = [*where, key], value[key]
    if where[-2:-1] == ["objects"]:
        raise document.wrong(
            tuple(where), f"object {where[-1]} is a mapping with channel and steps, not {shown(value)}"
        )
    raise document.wrong(tuple(where), f"{where[-1]} should be {EXPECTED[str(where[-1])]}, not {shown(value)}")


def _unknown(model: type[Entry], document: Document, where: Route) -> InvalidConfiguration:
    owner, key = where[:-1], str(where[-1])
    if model is FileEntry and not owner and key in ObjectEntry.model_fields:
        return document.wrong(where, f"{key} stands beside objects; move it into the object that it belongs to")
    if model is FileEntry and not owner and key == "output":
        return document.wrong(where, "output stands beside objects, whose keys are the names already; leave it out")
    if not owner:
        right = {*FileEntry.model_fields, *ShortEntry.model_fields}
    else:
        right = {
            *(
                PythonEntry if owner[-1] == "python" else OutputEntry if owner == ("output",) else ObjectEntry
            ).model_fields
        }
    return document.wrong(where, f"{_called(owner)} has no key {key}; {nearest(key, right)}")


def _called(owner: Route) -> str:
    if not owner:
        return "a pipeline"
    return f"object {owner[-1]}" if owner[:-1] == ("objects",) else str(owner[-1])
