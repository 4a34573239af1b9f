"""Evaluating: `cristae evaluate` as a job. Predictions and truths are paired, and one pass finds what all scores are made of.

A file is scored against a file, whatever their names; of folders, globs and sheets the images of one name belong together. A folder
that `run --out` wrote stands for the labels in it.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from hashlib import blake2b
from itertools import takewhile
from math import prod
from pathlib import Path
from typing import Any

import numpy as np

from cristae.blocks.work import Asked, Frame, Image, Pass, Ref
from cristae.errors import InvalidConfiguration, InvalidInput
from cristae.evaluation import topology
from cristae.evaluation.objects import Rules
from cristae.evaluation.overlap import overlaps
from cristae.evaluation.planes import planes
from cristae.evaluation.rays import rays
from cristae.evaluation.scores import Kind
from cristae.pipeline.batch import Sample, gathered
from cristae.pipeline.differing import MANY, Differences, picture_name
from cristae.pipeline.evaluated import PLANES, RAYS, TABLE, Disagreement, Listed, Scores
from cristae.pipeline.growing import frames_after, images_before
from cristae.pipeline.inputs import Inputs, absolute
from cristae.pipeline.job import FileOutput, Job
from cristae.pipeline.objects import one_channel
from cristae.pipeline.truths import TruthColumn, table_beside, truth_column
from cristae.store.tables import SUFFIXES as TABLES
from cristae.store.volume import Volume

SUFFIXES = (".json", ".csv")
NAMED = 5
"""Images that a sentence names at most."""
MARKS = re.compile(r"([-_. ])")
"""Between the words of a name."""
ALIKE = 1e-3
"""Relative difference of two voxel sizes that are one."""


@dataclass(frozen=True)
class Wanted:
    """What a user asks of an evaluation beside the scores of every one."""

    rules: Rules = field(default_factory=Rules)
    semantic: bool = False  # foreground only, whatever the numbers
    topology: bool = False
    objects: str | None = None  # a table of them
    picture: str | None = None
    pictures: str | None = None  # a folder of one for each image
    image: str | None = None  # what lies under them
    by: str | None = None  # a column of the truth's table
    table: str | None = None


def evaluate_job(pred: str, truth: str, out: str, inputs: Inputs, wanted: Wanted | None = None) -> Job:
    """`cristae evaluate PRED TRUTH --out SCORES`: a segmentation scored against a truth.

    Raises
    ------
    InvalidInput : if images lack a partner, or a pair is not of one grid.
    InvalidConfiguration : if an option makes no sense for what is given.
    """
    wanted = wanted or Wanted()
    inputs = replace(
        inputs, frame_interval_s=1.0
    )  # no score has seconds, so nobody needs to hear that they are not known
    path = Path(absolute(out))
    if path.suffix not in SUFFIXES:
        raise InvalidConfiguration(f"--out {out}: the name of scores ends in .json or .csv")
    state = path.parent / ".cristae" / path.name
    pairs = _ordered(_paired(pred, truth, inputs), images_before(state))
    for one, other in pairs:
        _same_grid(one.volume, other.volume)
    channels = [[_channel(sample.volume, inputs) for sample in pair] for pair in pairs]
    if unlike := next((n for n, both in enumerate(channels) if both != channels[0]), None):
        raise InvalidInput(
            f"{pairs[unlike][0].volume.path} has its labels in another channel than {pairs[0][0].volume.path}; evaluate them apart"
        )
    masks = next((v for pair in pairs for v in (pair[0].volume, pair[1].volume) if v.dtype == "bool"), None)
    ndim = len(pairs[0][0].volume.spatial_shape)
    kind = Kind(ndim, not wanted.semantic and masks is None, wanted.topology, wanted.rules)
    column = _column(wanted, kind, masks, [sample for _, sample in pairs])
    if wanted.topology:
        _fits([one.volume for one, _ in pairs])
    seen = _shown(wanted, inputs, [one for one, _ in pairs])
    asked = [Asked(TABLE, overlaps(ndim=ndim), {}, (Ref("truth", channels[0][1]),))]
    deep = wanted.pictures is not None and ndim == 3
    if wanted.picture is not None or deep:
        asked.append(Asked(RAYS, rays(ndim=ndim), {}, (Ref("truth", channels[0][1]),)))
    if deep:
        asked.append(Asked(PLANES, planes(ndim=ndim), {}, (Ref("truth", channels[0][1]),)))
    frames = frames_after(state, [f for n, (one, _) in enumerate(pairs) for f in inputs.frames(n, one.volume)])
    whole = beside(path)
    files = [
        FileOutput(place, Scores(kind, pred, truth, (channels[0][0], channels[0][1]), column))
        for place in dict.fromkeys((whole, path))
    ]
    if wanted.objects is not None:
        files.append(FileOutput(_table(wanted.objects, kind, masks), Listed(wanted.rules)))
    if wanted.picture is not None:
        files.append(FileOutput(_picture(wanted.picture), Disagreement()))
    if wanted.pictures is not None:
        of = channels[0][0], channels[0][1], _channel(seen[0], inputs) if seen else 0
        files += _pictures(wanted.pictures, [one for one, _ in pairs], frames, of)
    return Job(
        path.name,
        path.parent,
        tuple(
            Image(one.name, {"input": one.volume, "truth": other.volume, **({"image": seen[n]} if seen else {})})
            for n, (one, other) in enumerate(pairs)
        ),
        frames,
        (Pass("evaluate: overlaps", Ref("input", channels[0][0]), measures=tuple(asked)),),
        (),
        (),
        tuple(files),
        extra={"command": "evaluate", **inputs.facts, **_facts(wanted, kind, column)},
    )


def beside(path: Path) -> Path:
    """The JSON of scores that are kept at `path`: a CSV has no room for definitions and bins, so they lie beside it; under the name of
    the CSV where an evaluation of its own has the shorter one."""
    whole = path.with_suffix(".json")
    taken = path != whole and (path.parent / ".cristae" / whole.name).exists()
    return path.with_name(f"{path.name}.json") if taken else whole


def _paired(pred: str, truth: str, inputs: Inputs) -> list[tuple[Sample, Sample]]:
    """Prediction and truth of each image, by name; where no name is on both sides, by what is left of them without the ends that all of a
    side share, such as -mito or _mask."""
    return _partners(_opened(pred, inputs), _opened(truth, inputs), pred, truth)


def _partners(found: list[Sample], true: list[Sample], pred: str, truth: str) -> list[tuple[Sample, Sample]]:
    if len(found) == len(true) == 1:
        return [(found[0], true[0])]
    sides = [{sample.name: sample for sample in side} for side in (found, true)]
    if not set(sides[0]) & set(sides[1]):
        sides = [dict(zip(bare(list(side)), side.values(), strict=True)) for side in sides]
    lacks = [
        f"{where} has no partner of {_listed([other[key].name for key in sorted(set(other) - set(own))])}"
        for where, own, other in ((truth, sides[1], sides[0]), (pred, sides[0], sides[1]))
        if set(other) - set(own)
    ]
    if lacks:
        raise InvalidInput(
            f"{' and '.join(lacks)}: images are paired by their names; rename them, or leave out what has no partner"
        )
    return [(sample, sides[1][key]) for key, sample in sides[0].items()]


def bare(names: Sequence[str]) -> list[str]:
    """Names without the beginning and the end that all of them share, up to a mark between words; a single name is as it is."""
    if len(names) < 2:
        return list(names)
    words = [MARKS.split(name) for name in names]  # every other one is a mark
    start, end = (_alike(side) // 2 * 2 for side in (words, [one[::-1] for one in words]))
    if min(map(len, words)) <= start + end:  # what they share at both ends is the whole of one
        start = 0
    return ["".join(one[start : len(one) - end]) for one in words]


def _alike(several: Sequence[Sequence[str]]) -> int:
    """How many first words are the same in all."""
    return sum(1 for _ in takewhile(lambda column: len(set(column)) == 1, zip(*several, strict=False)))


def _opened(word: str, inputs: Inputs) -> list[Sample]:
    """The images that a word means; those of a run's folder are its labels."""
    place = Path(word)
    if place.suffix != ".zarr" and (place / "labels").is_dir() and not (place / "zarr.json").exists():
        word = str(place / "labels")
    try:
        batch = gathered([word], inputs)
    except InvalidInput:
        if inputs.axes is None:
            raise
        batch = gathered([word], replace(inputs, axes=None))  # they may be those of the other file
    if batch.failed:
        raise InvalidInput(next(iter(batch.failed.values())))
    for sample in batch.samples:
        if np.dtype(sample.volume.dtype).kind not in "bui":
            raise InvalidInput(
                f"{sample.volume.path} holds {sample.volume.dtype}, but labels are whole numbers and masks are bool; threshold it first"
            )
    return list(batch.samples)


def _ordered(pairs: Sequence[tuple[Sample, Sample]], first: Sequence[str]) -> list[tuple[Sample, Sample]]:
    """The pairs, those of a run that lies there already first and in its order."""
    place = {name: n for n, name in enumerate(first)}
    return sorted(pairs, key=lambda pair: place.get(pair[0].name, len(place)))


def _same_grid(pred: Volume, truth: Volume) -> None:
    if pred.spatial_shape != truth.spatial_shape:
        raise InvalidInput(
            f"{pred.path} is {_times(pred.spatial_shape)} voxels but {truth.path} is {_times(truth.spatial_shape)}; "
            "a prediction is scored voxel by voxel, on the grid of its truth"
        )
    if pred.frames != truth.frames:
        raise InvalidInput(
            f"{pred.path} has {pred.frames} time points but {truth.path} has {truth.frames}, and which belong together is not known; make the "
            "part of one with cristae convert --time A:B"
        )
    if any(abs(a - b) > ALIKE * max(a, b) for a, b in zip(pred.voxel_um, truth.voxel_um, strict=True)):
        raise InvalidInput(
            f"{pred.path} has voxels of {_times(pred.voxel_um)} um but {truth.path} of {_times(truth.voxel_um)} um; give the right size "
            "of both as --voxel-um"
        )


def _column(wanted: Wanted, kind: Kind, mask: Volume | None, truths: Sequence[Sample]) -> TruthColumn | None:
    """The column of the truth that recall is asked by."""
    if wanted.by is None:
        if wanted.table is not None:
            raise InvalidConfiguration(f"--table {wanted.table}: say by which of its columns, with --by")
        return None
    if not kind.by_object:
        why = "--semantic is given" if mask is None else f"{mask.path} is a mask"
        raise InvalidConfiguration(
            f"--by {wanted.by} asks for the recall of objects, but {why}, so that there are none"
        )
    table = wanted.table or table_beside([sample.volume for sample in truths])
    return truth_column(absolute(table), wanted.by, [sample.name for sample in truths])


def _has_objects(option: str, kind: Kind, mask: Volume | None) -> None:
    if not kind.by_object:
        why = "--semantic is given" if mask is None else f"{mask.path} is a mask"
        raise InvalidConfiguration(
            f"{option} is about objects, but {why}, so that there are none; leave it out, or give labels"
        )


def _table(word: str, kind: Kind, mask: Volume | None) -> Path:
    _has_objects(f"--objects {word}", kind, mask)
    if not word.endswith(TABLES):
        raise InvalidConfiguration(f"--objects {word}: a table's name ends in .parquet or .csv")
    return Path(absolute(word))


def _fits(volumes: Sequence[Volume]) -> None:
    for volume in volumes:
        if (many := prod(volume.spatial_shape)) > topology.LARGEST:
            raise InvalidInput(
                f"--topology thins an image whole, and {volume.path} has {many / 1e6:.0f} million voxels, more than the "
                f"{topology.LARGEST / 1e6:.0f} million that are taken; leave it out, or take a part with --crop"
            )


def _channel(volume: Volume, inputs: Inputs) -> int:
    return one_channel(volume, inputs.channel if volume.channel_count > 1 else None)


def _shown(wanted: Wanted, inputs: Inputs, predictions: Sequence[Sample]) -> list[Volume]:
    """The images under the pictures, in the order of the predictions; empty where none are given."""
    if wanted.image is None:
        return []
    if wanted.pictures is None:
        raise InvalidConfiguration(f"--image {wanted.image} lies under pictures; say where those go, with --pictures")
    word = wanted.image
    place = {sample.name: n for n, sample in enumerate(predictions)}
    batch = gathered([word], inputs)
    if batch.failed:
        raise InvalidInput(next(iter(batch.failed.values())))
    pairs = _partners(list(predictions), list(batch.samples), "the prediction", word)
    found = [other.volume for _, other in sorted(pairs, key=lambda pair: place[pair[0].name])]
    for sample, volume in zip(predictions, found, strict=True):
        _same_grid(sample.volume, volume)
    if len({_channel(volume, inputs) for volume in found}) > 1:
        raise InvalidInput(f"--image {word} has what is to be shown in several channels; name one with --channel")
    return found


def _pictures(
    word: str, predictions: Sequence[Sample], frames: Sequence[Frame], channels: tuple[int, int, int]
) -> list[FileOutput]:
    """A picture for each frame, in a folder."""
    folder = Path(absolute(word))
    if folder.suffix.lower() in (".png", ".jpg") or folder.is_file():
        raise InvalidConfiguration(f"--pictures {word} is a file; name a folder, or draw one picture with --picture")
    return [
        FileOutput(
            folder / picture_name(one.name, frame.t, one.volume.frames > 1),
            Differences(number, channels),
            certain=len(frames) <= MANY,
            image=frame.image,
        )
        for number, frame in enumerate(frames)
        for one in (predictions[frame.image],)
    ]


def _picture(word: str) -> Path:
    if not word.lower().endswith(".png"):
        raise InvalidConfiguration(f"--picture {word} is no picture; end it in .png")
    return Path(absolute(word))


def _facts(wanted: Wanted, kind: Kind, column: TruthColumn | None) -> dict[str, Any]:
    """What scores depend on beside the volumes."""
    facts: dict[str, Any] = {
        "objects": kind.by_object,
        "topology": wanted.topology,
        "min_voxels": wanted.rules.min_voxels,
        "threshold_iou": list(wanted.rules.iou),
        "picture": wanted.picture is not None,
        "table_of_objects": wanted.objects is not None,
    }
    if wanted.pictures is not None:
        facts["pictures"] = True
    if column is not None:
        digest = blake2b(Path(column.path).read_bytes(), digest_size=16).hexdigest()
        facts |= {"by": column.name, "table": digest}
    return facts


def _listed(names: Sequence[str]) -> str:
    shown = ", ".join(names[:NAMED])
    return shown if len(names) <= NAMED else f"{shown} and {len(names) - NAMED} more"


def _times(numbers: Sequence[float]) -> str:
    return " x ".join(f"{n:g}" for n in numbers)
