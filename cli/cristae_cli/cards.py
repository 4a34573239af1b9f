"""Cards: models as a person reads them, or as JSON for a program: a row for each of several, and all that one says of itself."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

from cristae_cli.talk import console

AXES = {2: "yx", 3: "zyx"}

SHORT = {
    "course": "all settings of the training are in --json",
    "familiarity": "how its tiles looked; cristae check-model compares an image with them",
}
"""Parts of a training that are too long for a line."""


def show_models(models: Sequence[Any], as_json: bool) -> None:
    """A row for each model."""
    if as_json:
        print(json.dumps([_facts(model) for model in models]))
        return
    if not models:
        print("no model comes with this cristae; --model takes the path of a .safetensors file")
        return
    from rich.table import Table

    table = Table("name", "axes", "voxel um", "finds", "in", "weights", "trained on", "scores")
    for model in models:
        card = model.card
        table.add_row(
            model.name,
            AXES[card.ndim],
            _times(card.voxel_um),
            ", ".join(card.classes),
            ", ".join(card.channels),
            _count(model.numbers),
            str(card.training.get("data", "not said")),
            _flat(card.scores) or "not said",
        )
    console(160).print(table)
    print("all that one says of itself: cristae models NAME")


def show_model(model: Any, as_json: bool) -> None:
    """The whole card of one model, in words."""
    if as_json:
        print(json.dumps(_facts(model)))
        return
    card = model.card
    space = "stacks" if card.ndim == 3 else "planes, and stacks slice by slice"
    reach = (
        "as far as its tile: no crop is exact"
        if card.reach is None
        else f"{_times(card.reach)} voxels to each side, so that blend: crop is exact"
    )
    gives = {
        "sigmoid": "the probability of each class by itself",
        "softmax": "the probabilities of all classes, which add up to 1",
        "none": "numbers that are no probabilities; no step takes them",
    }[card.activation]
    rows = [
        ("name", model.name),
        ("file", f"{model.path}, {_size(model.bytes)}"),
        ("sha256", model.sha256),
        ("for", f"{space}, axes {AXES[card.ndim]}"),
        ("voxel um", f"{_times(card.voxel_um)}; other voxels are brought to these"),
        ("takes", f"{len(card.channels)} channel{'s' * (len(card.channels) > 1)}: {', '.join(card.channels)}"),
        ("finds", ", ".join(card.classes)),
        ("gives", gives),
        ("brightness", _brightness(card.normalise)),
        ("network", f"{card.architecture}, {_count(model.numbers)} weights: {_flat(card.hyper)}"),
        ("tile", f"{_times(card.tile)} voxels, in steps of {_times(card.stride)}"),
        ("sees", reach),
        ("work", f"{card.multiplications:,.0f} multiplications a voxel"),
        *[(f"training {key}", SHORT.get(key) or _said(value)) for key, value in card.training.items()],
        *[(f"score {key}", _said(value)) for key, value in card.scores.items()],
    ]
    width = max(len(name) for name, _ in rows)
    for name, value in rows:
        print(f"{name:<{width}}  {value}")


def _facts(model: Any) -> dict[str, Any]:
    return {
        "name": model.name,
        "path": str(model.path),
        "sha256": model.sha256,
        "bytes": model.bytes,
        "weights": model.numbers,
        "card": asdict(model.card),
    }


def _size(nbytes: int) -> str:
    return f"{nbytes / 1e6:.1f} MB" if nbytes >= 1e5 else f"{nbytes / 1e3:.1f} kB"


def _brightness(how: Mapping[str, Any]) -> str:
    if how["how"] == "range":
        return f"{how['low']:g} of the image becomes 0, {how['high']:g} becomes 1"
    if how["how"] == "percentiles":
        return f"percentile {how['low']:g} of the frame becomes 0, percentile {how['high']:g} becomes 1"
    return {"none": "as it is", "standard": "mean 0 and standard deviation 1 over the frame"}[str(how["how"])]


def _count(number: int) -> str:
    return f"{number / 1e6:.2f} million" if number >= 1e5 else f"{number:,}"


def _times(numbers: Sequence[float]) -> str:
    return " x ".join(f"{n:g}" for n in numbers)


def _flat(facts: Mapping[str, Any]) -> str:
    return ", ".join(f"{key} {_said(value)}" for key, value in facts.items())


def _said(value: Any) -> str:
    if isinstance(value, Mapping):
        return _flat(value)
    if isinstance(value, list | tuple):
        return "[" + ", ".join(map(_said, value)) + "]"
    return f"{value:.4g}" if isinstance(value, float) else str(value)
