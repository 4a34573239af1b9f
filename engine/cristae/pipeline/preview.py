"""Preview: what a pipeline finds in a small box, for several settings at once, in memory; nothing is kept but a picture."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from math import ceil, prod, sqrt

import numpy as np
from PIL import Image

from cristae.array import Array
from cristae.blocks.measure import ask
from cristae.blocks.work import Ref
from cristae.errors import InvalidConfiguration, InvalidInput
from cristae.grid import Box
from cristae.pipeline.chain import chain_of
from cristae.pipeline.compile import Node
from cristae.pipeline.file import PipelineFile, holders_first
from cristae.pipeline.grids import on_grid, way_back
from cristae.pipeline.objects import one_channel, spec_of
from cristae.pipeline.picture import GROUND, overview
from cristae.pipeline.reading import beside, seen_by
from cristae.store.volume import Volume

LARGEST = 64 << 20
"""Voxels of the box; a preview is to be there while one waits for it."""


@dataclass(frozen=True)
class Panel:
    """One setting of one object, and what it found in the box."""

    setting: str
    object: str
    objects: int
    size: float  # of all objects, in `unit`
    unit: str  # um3, or um2 in the plane
    thresholds: Mapping[str, float]
    picture: np.ndarray  # (y, x, 3) uint8


def preview(
    pipelines: Mapping[str, PipelineFile], volume: Volume, channel: str | int | None, t: int = 0
) -> list[Panel]:
    """A panel for each setting and each of its objects. Steps that two settings share are computed once.

    pipelines : the same pipeline with different settings, by what is said of each
    volume : the box to look at, at time `t`; thresholds over a frame are those of the box alone

    Raises
    ------
    InvalidInput : if the box is too large, or has no such time point.
    InvalidConfiguration : if an object does not end in labels.
    """
    if (voxels := prod(volume.spatial_shape)) > LARGEST:
        raise InvalidInput(
            f"the box of {volume.path} has {voxels} voxels, more than a preview takes ({LARGEST}); give a smaller --crop"
        )
    if not 0 <= t < volume.frames:
        raise InvalidInput(f"--time {t} is outside the {volume.frames} time points of {volume.path}")
    done: dict[str, Array] = {}
    panels, stack = [], volume
    for setting, pipeline in pipelines.items():
        volume = seen_by(pipeline, stack)
        flats = beside(pipeline, stack, volume)
        held: dict[Ref, Array] = {}
        for item in holders_first(pipeline.objects):
            c = one_channel(volume, item.channel if item.channel is not None else channel)
            leaf, _ = chain_of(item, spec_of(volume), Ref("input", c))
            if leaf.stage.name != "label":
                raise InvalidConfiguration(f"object {item.name} ends in {leaf.stage.name}, not in labels; add label")
            if not on_grid(leaf.spec, spec_of(volume)):
                raise InvalidConfiguration(
                    f"object {item.name} ends on other voxels than the image's, and a preview draws both; put {way_back(spec_of(volume))} "
                    "before label"
                )
            raw = volume.read(Box.whole(volume.spatial_shape), t, c)
            others = {Ref(name, c): flat.read(Box.whole(volume.spatial_shape), t, c) for name, flat in flats.items()}
            own = item.within is not None or bool(flats)
            seen = Seen(raw, {**held, **others, Ref("input", c): raw}, f"{setting}:{c}" if own else f"{c}", done)
            labels = held[Ref(item.name)] = _output(leaf, seen)
            thresholds = dict(_thresholds(leaf, seen))
            left = ", without flatfield, which takes all fields" if any(map(_pooled, leaf.chain)) else ""
            panels.append(_panel(setting + left, item.name, volume, raw, labels, thresholds))
    return panels


def sheet(panels: Sequence[Panel]) -> np.ndarray:
    """(y, x, 3) uint8: the pictures of all panels in rows, each as large as the largest."""
    columns = ceil(sqrt(len(panels)))
    rows = ceil(len(panels) / columns)
    height, width = (max(p.picture.shape[n] for p in panels) for n in (0, 1))
    canvas = Image.new("RGB", (columns * width, rows * height), GROUND)
    for n, panel in enumerate(panels):
        canvas.paste(Image.fromarray(panel.picture), (n % columns * width, n // columns * height))
    return np.asarray(canvas)


@dataclass(frozen=True)
class Seen:
    """What an object's steps work on: its channel, what lies beside it, and what was made of either before."""

    raw: Array
    beside: Mapping[Ref, Array]
    source: str  # a word for the two, in keys of what is done
    done: dict[str, Array]


def _output(node: Node | None, seen: Seen) -> Array:
    """A node's output over the whole box, from what is done already as far as it goes."""
    if node is None:
        return seen.raw
    if _pooled(node):
        return _output(node.parent, seen).astype(node.spec.dtype) - node.stage.params.get("offset", 0)
    key = seen.source + "".join(f" > {link.stage.name} {dict(link.stage.params)}" for link in node.chain)
    if key not in seen.done:
        others = () if node.beside is None else (seen.beside[node.beside],)
        seen.done[key] = node.stage(_output(node.parent, seen), *others)
    return seen.done[key]


def _pooled(node: Node) -> bool:
    """Whether a step needs what many images have in common, of which a box knows nothing."""
    return node.stage.name == "flatfield" and bool(node.stage.asks)


def _thresholds(leaf: Node, seen: Seen) -> Iterator[tuple[str, float]]:
    for node in leaf.chain:
        if node.stage.name != "threshold":
            continue
        found = node.stage.asks.get("threshold")
        if found is not None:
            yield node.name, float(ask(found, _output(node.parent, seen)).number("value"))
        elif node.stage.params.get("value") is not None:
            yield node.name, float(node.stage.params["value"])


def _panel(
    setting: str, name: str, volume: Volume, raw: np.ndarray, labels: np.ndarray, thresholds: Mapping[str, float]
) -> Panel:
    objects, size = int(labels.max(initial=0)), float(np.count_nonzero(labels)) * prod(volume.voxel_um)
    unit = "um3" if raw.ndim == 3 else "um2"
    cuts = ", ".join(f"{step} {value:.4g}" for step, value in thresholds.items())
    lines = [f"{objects} objects, {size:.4g} {unit}" + (f"; {cuts}, found in this box" if cuts else "")]
    title = f"{name}: {setting}"
    picture = overview(raw, labels, voxel_um=volume.voxel_um, title=title, lines=lines)
    return Panel(setting, name, objects, size, unit, thresholds, picture)
