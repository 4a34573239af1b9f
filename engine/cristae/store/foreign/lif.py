"""Leica's LIF: images are scenes; spectral steps stand among the channels."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from cristae.errors import InvalidInput
from cristae.store.facts import Channel, Found, FoundArray
from cristae.store.foreign.libraries import extra, reading
from cristae.store.foreign.planes import Planes
from cristae.store.foreign.scenes import chosen, named

X, Y, Z, T = 1, 2, 3, 4
SPECTRAL = {5: "emission", 9: "excitation"}
"""Numbers of its dimensions, as the file has them."""

LUTS = {
    "red": "FF0000", "green": "00FF00", "blue": "0000FF", "cyan": "00FFFF", "magenta": "FF00FF", "yellow": "FFFF00",
    "gray": "FFFFFF", "grey": "FFFFFF",
}  # fmt: skip
"""Colours that the file knows by name."""


def find(path: Path, name: str, scene: str | None) -> Found:
    """Axes, sizes, channels and times of one image."""
    with reading(path, "LIF"):
        file = _file(path)
        images = list(file.get_iter_image())
        scenes = [str(image.name) for image in images]
        number = chosen(path, scenes, scene)
        image = images[number]
        axes, shape = _layout(image, path)
        scale = {a: 1 / s for a, s in zip("xyz", image.scale[:3], strict=True) if s} | _interval(image)
        chunk = (*[1] * (len(shape) - 2), *shape[-2:])
        array = FoundArray(
            str(number), shape, _dtype(image, path), chunk, chunk, {a: s for a, s in scale.items() if a in axes}
        )
        about = _about(file, images, number)
        times = _times_s(about, int(image.dims.t)) if about is not None else ()
        return Found(
            str(path), named(name, scenes, number), "lif", (array,), axes, _channels(image, about), times_s=times
        )


def open_array(path: Path, member: str) -> Planes:
    """One image, plane by plane."""
    with reading(path, "LIF"):
        image = list(_file(path).get_iter_image())[int(member)]
        axes, shape = _layout(image, path)
        dtype, spectral = np.dtype(_dtype(image, path)), _spectral(image)

    def plane(place: tuple[int, ...], box: tuple[slice, ...]) -> np.ndarray:
        at = dict(zip(axes, place, strict=False))
        steps = image.dims_n[spectral] if spectral else 1
        c, step = divmod(at.get("c", 0), steps)
        wanted = {Z: at.get("z", 0), T: at.get("t", 0)} | ({spectral: step} if spectral else {})
        return np.asarray(image.get_plane(c=c, requested_dims=wanted)).astype(dtype, copy=False)[box]

    return Planes(shape, dtype, len(shape) - 2, plane)


def _file(path: Path) -> Any:
    return extra("readlif.reader", path, "lif").LifFile(str(path))


def _about(file: Any, images: Sequence[Any], number: int) -> Any | None:
    """What the file's XML says of one image, if it tells them apart as the library does."""
    found = [e for e in file.xml_root.iter("Element") if e.find("./Data/Image") is not None]
    alike = len(found) == len(images) and str(images[number].name).split("/")[-1] == found[number].get("Name")
    return found[number].find("./Data/Image") if alike else None


def _times_s(about: Any, frames: int) -> tuple[float, ...]:
    """When each time point began, in seconds since the first: the stamps of planes, of 100 ns, time outermost."""
    stamps = about.find("TimeStampList")
    if stamps is None or frames < 2 or _outermost(about) != T:
        return ()
    when = [int(word, 16) for word in (stamps.text or "").split()]
    when += [(int(s.get("HighInteger")) << 32) + int(s.get("LowInteger")) for s in stamps.findall("TimeStamp")]
    each = len(when) // frames
    if not each or len(when) % frames:
        return ()
    first = when[::each]
    return tuple((one - first[0]) * 1e-7 for one in first) if first == sorted(first) else ()


def _outermost(about: Any) -> int:
    """The dimension whose steps are the longest in the file."""
    steps = [
        (int(d.get("BytesInc", 0)), int(d.get("DimID"))) for d in about.iter("DimensionDescription") if d.get("DimID")
    ]
    return max(steps)[1] if steps else 0


def _spectral(image: Any) -> int | None:
    return next((n for n in SPECTRAL if image.dims_n.get(n, 1) > 1), None)


def _layout(image: Any, path: Path) -> tuple[str, tuple[int, ...]]:
    known = {X, Y, Z, T, *SPECTRAL}
    odd = [n for n, size in image.dims_n.items() if n not in known and size > 1]
    if odd or image.dims.m > 1 or len([n for n in SPECTRAL if image.dims_n.get(n, 1) > 1]) > 1:
        raise InvalidInput(
            f"{path}: image {image.name!r} has tiles or axes beside t, c, z, y, x; merge or export it first"
        )
    spectral = _spectral(image)
    channels = int(image.channels) * (image.dims_n[spectral] if spectral else 1)
    sizes = {"t": image.dims.t, "c": channels, "z": image.dims.z}
    outer = {a: int(n) for a, n in sizes.items() if n > 1}
    return "".join(outer) + "yx", (*outer.values(), int(image.dims.y), int(image.dims.x))


def _interval(image: Any) -> dict[str, float]:
    """Seconds between time points; the library gives them as frames a second."""
    rate = image.scale[3] if len(image.scale) > 3 else None
    return {"t": 1 / rate} if rate and image.dims.t > 1 else {}


def _dtype(image: Any, path: Path) -> str:
    depths = set(image.bit_depth)
    if max(depths) > 16:
        raise InvalidInput(f"{path}: image {image.name!r} has {max(depths)} bits a pixel; 8 to 16 are read")
    return "uint8" if max(depths) <= 8 else "uint16"


def _channels(image: Any, about: Any | None) -> tuple[Channel, ...]:
    spectral = _spectral(image)
    described = [] if about is None else about.findall("./ImageDescription/Channels/ChannelDescription")
    if spectral is None:
        told = [(_dye(one), LUTS.get(one.get("LUTName", "").lower())) for one in described]
        return tuple(Channel(dye or str(c), colour) for c, (dye, colour) in enumerate(told))
    return tuple(
        Channel(f"{SPECTRAL[spectral]} {step}" if image.channels == 1 else f"{c} {SPECTRAL[spectral]} {step}")
        for c in range(image.channels)
        for step in range(image.dims_n[spectral])
    )


def _dye(channel: Any) -> str | None:
    """The name of a channel's dye, which newer files keep as a property."""
    for known in channel.findall("ChannelProperty"):
        if known.findtext("Key") == "DyeName":
            return (known.findtext("Value") or "").strip() or None
    return None
