"""Card: what a model file says of itself, and the file: one `.safetensors`, whose text metadata holds the card as JSON.

    8 bytes          length of the header, little-endian
    header, JSON     every tensor's type, shape and place; `__metadata__` holds `cristae`, the card
    tensors          raw bytes

Nothing in such a file can run. Neither torch nor the safetensors package is needed to read it: a plan knows all of a model from
its card. Format: https://github.com/huggingface/safetensors.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields, replace
from math import isfinite, prod
from pathlib import Path
from typing import Any

import numpy as np

from cristae.errors import InvalidConfiguration, InvalidInput
from cristae.store.bundle import write_bytes

KEY, DIGEST = "cristae", "sha256"
SUFFIX = ".safetensors"
PICKLES = (".pt", ".pth", ".pkl", ".pickle", ".ckpt", ".bin", ".joblib")
DTYPES = {"F64": "<f8", "F32": "<f4", "F16": "<f2", "I64": "<i8", "I32": "<i4", "U8": "|u1", "BOOL": "|b1"}
LONGEST = 100 << 20  # bytes of a header, by the format's own rule
ACTIVATIONS = ("sigmoid", "softmax", "none")
NORMALISATIONS: Mapping[str, tuple[str, ...]] = {
    "none": (),
    "range": ("low", "high"),  # numbers of the image that become 0 and 1
    "percentiles": ("low", "high"),  # of all voxels of the scope, that become 0 and 1
    "standard": (),  # mean 0 and standard deviation 1 over the scope
}


@dataclass(frozen=True)
class Card:
    """What a model is, and how its input must look. Axes are (z, y, x) or (y, x)."""

    architecture: str
    hyper: Mapping[str, Any]  # keywords of the architecture
    ndim: int
    voxel_um: tuple[float, ...]  # of the images it was trained on
    classes: tuple[str, ...]  # names of its outputs
    tile: tuple[int, ...]  # voxels it was made for
    stride: tuple[int, ...]  # product of its poolings
    reach: tuple[int, ...] | None = None  # voxels an output sees to each side; None: as far as its tile
    channels: tuple[str, ...] = ("image",)
    activation: str = "sigmoid"
    normalise: Mapping[str, Any] = field(default_factory=lambda: {"how": "none"})
    multiplications: float = 0.0  # a voxel
    activation_bytes: float = 0.0  # a voxel of a tile, all outputs of convolutions added up
    training: Mapping[str, Any] = field(default_factory=dict)  # data, seed, whatever its maker says
    scores: Mapping[str, Any] = field(default_factory=dict)

    @property
    def receptive_field(self) -> tuple[int, ...] | None:
        """Voxels that one output depends on, per axis."""
        return None if self.reach is None else tuple(2 * r + 1 for r in self.reach)

    def with_facts(self, training: Mapping[str, Any], scores: Mapping[str, Any]) -> Card:
        """The same model, and how it came about."""
        return replace(self, training=training, scores=scores)

    def __post_init__(self) -> None:
        for name in ("voxel_um", "classes", "tile", "stride", "channels"):
            object.__setattr__(self, name, tuple(getattr(self, name)))
        if self.reach is not None:
            object.__setattr__(self, "reach", tuple(self.reach))
        lengths = {len(v) for v in (self.voxel_um, self.tile, self.stride, self.reach) if v is not None}
        if self.ndim not in (2, 3) or lengths != {self.ndim}:
            raise InvalidConfiguration(
                f"a card has a number for each of 2 or 3 axes, not ndim {self.ndim}, voxel_um {self.voxel_um}, tile {self.tile}, "
                f"stride {self.stride}, reach {self.reach}"
            )
        whole = (*self.tile, *self.stride)
        if not all(isinstance(n, int) and n > 0 for n in whole) or not all(
            isfinite(v) and v > 0 for v in self.voxel_um
        ):
            raise InvalidConfiguration(
                f"a card's sizes are above 0, not voxel_um {self.voxel_um}, tile {self.tile}, stride {self.stride}"
            )
        if not all(isinstance(name, str) and name for name in (*self.classes, *self.channels)):
            raise InvalidConfiguration(f"a card's classes and channels are words, not {self.classes}, {self.channels}")
        if not self.classes or len(set(self.classes)) != len(self.classes):
            raise InvalidConfiguration(f"a card names each class once, not {', '.join(self.classes) or 'none'}")
        if self.activation not in ACTIVATIONS:
            raise InvalidConfiguration(
                f"a card's activation is one of {', '.join(ACTIVATIONS)}, not {self.activation!r}"
            )
        how = self.normalise.get("how")
        if how not in NORMALISATIONS or set(self.normalise) != {"how", *NORMALISATIONS[str(how)]}:
            known = "; ".join(" ".join((name, *words)) for name, words in NORMALISATIONS.items())
            raise InvalidConfiguration(
                f"a card's normalise says how, and its numbers, as one of: {known}; not {dict(self.normalise)}"
            )
        ends = [self.normalise[word] for word in NORMALISATIONS[str(how)]]
        if ends and not (all(type(n) in (int, float) and isfinite(n) for n in ends) and ends[0] < ends[1]):
            raise InvalidConfiguration(f"a card's normalisation goes from low to high, not {dict(self.normalise)}")


def written(path: str | Path, card: Card, tensors: Mapping[str, np.ndarray]) -> str:
    """Write a model file, whole or not at all; returns its sha256. The same card and tensors give the same bytes."""
    told = json.dumps(asdict(card), sort_keys=True)
    header: dict[str, Any] = {"__metadata__": {KEY: told}}
    codes = {np.dtype(d): code for code, d in DTYPES.items()}
    parts, at = [], 0
    for name in sorted(tensors):
        data = np.ascontiguousarray(tensors[name]).tobytes()
        kind = codes[tensors[name].dtype]
        header[name] = {"dtype": kind, "shape": list(tensors[name].shape), "data_offsets": [at, at + len(data)]}
        parts.append(data)
        at += len(data)
    header["__metadata__"][DIGEST] = _digest(told, b"".join(parts))
    head = json.dumps(header, separators=(",", ":")).encode()
    head += b" " * (-len(head) % 8)
    whole = b"".join([len(head).to_bytes(8, "little"), head, *parts])
    write_bytes(Path(path), whole)
    return hashlib.sha256(whole).hexdigest()


def read_card(path: str | Path) -> tuple[Card, str]:
    """The card of a model file, and the sha256 of the whole file. Nothing of it is executed.

    Raises
    ------
    InvalidInput : if there is no such file, it is cut short, of another program, or a pickle.
    """
    data = contents(path)
    return _card(path, _header(path, data), data), hashlib.sha256(data).hexdigest()


def read_tensors(path: str | Path, data: bytes) -> tuple[Card, dict[str, np.ndarray]]:
    """Card and tensors from the bytes of a model file; see `read_card`."""
    header = _header(path, data)
    first = 8 + int.from_bytes(data[:8], "little")
    out = {}
    for name, told in header.items():
        if name != "__metadata__":
            begin, end = told["data_offsets"]
            out[name] = np.frombuffer(data[first + begin : first + end], DTYPES[told["dtype"]]).reshape(told["shape"])
    return _card(path, header, data), out


def numbers_in(path: str | Path) -> int:
    """How many floats a model file holds: its weights, and what its normalisations keep; see `read_card`."""
    header = _header(path, contents(path))
    return sum(
        prod(told["shape"]) for name, told in header.items() if name != "__metadata__" and told["dtype"][0] == "F"
    )


def contents(path: str | Path) -> bytes:
    """The bytes of a model file, refused in words where a name or a first byte says that it is none."""
    path = Path(path)
    if path.suffix.lower() in PICKLES:
        raise _a_pickle(path)
    try:
        data = path.read_bytes()
    except FileNotFoundError:
        raise InvalidInput(f"there is no model {path}; give the path of a {SUFFIX} file") from None
    except OSError as error:
        raise InvalidInput(f"the model {path} cannot be read: {error.strerror}") from None
    # A length may begin with these bytes too, but then the header follows it.
    if (data[:1] == b"\x80" or data[:2] == b"PK") and data[8:9] != b"{":
        raise _a_pickle(path)
    return data


def _a_pickle(path: Path) -> InvalidInput:
    return InvalidInput(
        f"{path} is a pickle, which can run anything when it is opened, and is not opened; load it where you trust it and store it with "
        "cristae.inference.save_model"
    )


def _header(path: str | Path, data: bytes) -> dict[str, Any]:
    """The header, its every place compared with what is there."""
    foreign = InvalidInput(
        f"{path} is no {SUFFIX} file, or its beginning is damaged; give a model that save_model wrote"
    )
    size = int.from_bytes(data[:8], "little")
    if len(data) < 8 or size > LONGEST or data[8:9] not in (b"{", b""):
        raise foreign
    if len(data) < 8 + size:
        raise _short(path, len(data), 8 + size)
    try:
        header = json.loads(data[8 : 8 + size])
        tensors = {n: t for n, t in header.items() if n != "__metadata__"}
        ends = [0]
        for told in sorted(tensors.values(), key=lambda t: t["data_offsets"]):
            begin, end = told["data_offsets"]
            if begin != ends[-1] or end - begin != prod(told["shape"]) * np.dtype(DTYPES[told["dtype"]]).itemsize:
                raise ValueError
            ends.append(end)
    except KeyError as error:
        raise InvalidInput(
            f"{path} lacks, or has a kind of numbers called, {error.args[0]}, which cristae does not read; store it again with save_model"
        ) from None
    except (ValueError, TypeError, AttributeError, RecursionError):
        raise foreign from None
    if len(data) < 8 + size + ends[-1]:
        raise _short(path, len(data), 8 + size + ends[-1])
    if len(data) > 8 + size + ends[-1]:
        raise foreign
    found: dict[str, Any] = header
    return found


def _short(path: str | Path, size: int, whole: int) -> InvalidInput:
    return InvalidInput(f"{path} is cut short: {size} bytes of {whole}; copy it again from where it came")


def _digest(card: str, numbers: bytes) -> str:
    """Of a card and the weights that belong to it."""
    return hashlib.sha256(card.encode() + numbers).hexdigest()


def _card(path: str | Path, header: Mapping[str, Any], data: bytes) -> Card:
    metadata = header.get("__metadata__")
    text = metadata.get(KEY) if isinstance(metadata, dict) else None
    if not isinstance(text, str):
        raise InvalidInput(
            f"{path} holds weights, but no card that says of which network; load them where that is known and store them with "
            "cristae.inference.save_model"
        )
    assert isinstance(metadata, dict)
    if (said := metadata.get(DIGEST)) is not None and said != _digest(
        text, data[8 + int.from_bytes(data[:8], "little") :]
    ):
        raise InvalidInput(
            f"{path} is not as it was written: its card or a weight was changed, or damaged on the way; copy it again from where it came, or "
            "store what was changed with cristae.inference.save_model"
        )
    try:
        told = json.loads(text)
        unknown = set(told) - {f.name for f in fields(Card)}
        if unknown:
            raise InvalidConfiguration(f"it knows {', '.join(sorted(unknown))}, which this version of cristae does not")
        return Card(**told)
    except (InvalidConfiguration, ValueError, TypeError, AttributeError) as error:
        raise InvalidInput(f"the card in {path} cannot be used: {error}") from None
