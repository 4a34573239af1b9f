"""Layers: the labels of a run in napari, over their images, lazily; coloured by a column of the table."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from importlib.util import find_spec
from typing import Any

import numpy as np

from cristae.pipeline.viewing import View, column
from cristae.store.volume import Volume

QT = ("PyQt6", "PySide6", "PyQt5", "PySide2")


def can_show() -> bool:
    """Whether napari is installed, with a Qt to draw its window and a screen to draw it on."""
    screen = sys.platform != "linux" or bool({"DISPLAY", "WAYLAND_DISPLAY"} & set(os.environ))
    return screen and find_spec("napari") is not None and any(find_spec(name) is not None for name in QT)


def show(views: Sequence[View], colour: str = "") -> None:
    """A napari window with all views; returns when it is closed."""
    import napari

    add_layers(napari.Viewer(title="cristae"), views, colour)
    napari.run()


def add_layers(viewer: Any, views: Sequence[View], colour: str = "") -> None:
    """An image and a labels layer for each view; those after the first are there, but hidden.

    viewer : napari's Viewer or ViewerModel
    """
    for number, view in enumerate(views):
        placed = {"scale": view.labels.voxel_um, "translate": view.labels.translation_um, "visible": number == 0}
        if view.image is not None:
            low, high = view.window
            levels = [_lazy(view.image, k, view.channel, view.times) for k in range(len(view.image.levels))]
            viewer.add_image(_one(levels), name=view.name, contrast_limits=(low, high), **placed)
        levels = [_lazy(view.labels, k, 0, range(len(view.times))) for k in range(len(view.labels.levels))]
        layer = viewer.add_labels(_one(levels), name=f"{view.name}: {view.object}", **placed)
        if colour in view.columns:
            layer.colormap = _colours(view, colour)


def _lazy(volume: Volume, level: int, channel: int, times: Sequence[int]) -> Any:
    """A level as a dask array, (t, z, y, x) or (z, y, x), of one channel and these time points."""
    array = volume.xarray(level)
    if "c" in array.dims:
        array = array.isel(c=channel)
    if "t" in array.dims:
        array = array.isel(t=list(times))
    return array.data


def _one(levels: list[Any]) -> Any:
    return levels if len(levels) > 1 else levels[0]


def _colours(view: View, name: str) -> Any:
    """A colour for each label by its value in the first time point; 2 % at either end share the last colours."""
    from napari.utils import DirectLabelColormap
    from napari.utils.colormaps import AVAILABLE_COLORMAPS

    labels, values = column(view, 0, name)
    low, high = np.nanpercentile(values, (2, 98)) if values.size else (0.0, 1.0)
    colours = AVAILABLE_COLORMAPS["viridis"].map(np.nan_to_num((values - low) / ((high - low) or 1.0)).clip(0, 1))
    found: dict[int | None, Any] = {int(label): colour for label, colour in zip(labels, colours, strict=True)}
    return DirectLabelColormap(color_dict={**found, None: np.array([0.5, 0.5, 0.5, 1.0]), 0: np.zeros(4)})
