"""Adapter: a function of the user's own as a stage, over blocks with a halo, or over tiles like a network.

    def bright(image):            # numpy in, numpy of the same shape out
        return ndimage.uniform_filter(image.astype("f4"), 5)

    probability   what it returns is numbers, blended where tiles overlap
    mask          booleans; where tiles overlap, the blend is a vote
    labels        objects of each tile, which `instances` joins

The source travels with the stage, frozen when the run was planned: workers run what was planned with, and the key of a run covers
it. What else the file imports is not seen; `version` is for that.
"""

from __future__ import annotations

import ast
import hashlib
import inspect
import sys
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from functools import lru_cache, partial
from math import ceil, prod
from pathlib import Path
from threading import Lock
from traceback import extract_tb
from types import ModuleType
from typing import Any

import numpy as np

from cristae.array import Array, namespace, to_host
from cristae.blocks.measure import Answer
from cristae.blocks.stage import At, Cost, Spec, Stage
from cristae.errors import CristaeError, InvalidConfiguration, InvalidInput
from cristae.grid import Halo, no_halo
from cristae.inference.blend import HELD_BYTES, blended
from cristae.inference.instances import placed, placing_cost, tile_ids, tile_labels
from cristae.inference.tiles import Tiling, tiling_of
from cristae.labels.components import label_spec

COST = Cost(bytes_per_voxel=24.0, ns_per_voxel=200.0)
"""Of a function that nobody has measured: three arrays of floats beside its input, and as dear as a median."""

RETURNS = ("probability", "mask", "labels")
OVERLAP = 0.25
"""Of tiles of labels, unless given: an object shorter than a quarter of a tile is seen whole by some tile."""


def python(
    *,
    file: str,
    function: str,
    voxel_um: tuple[float, ...],
    returns: str = "probability",
    halo_um: float | Sequence[float] | None = None,
    tile: Sequence[int] | None = None,
    overlap: float | None = None,
    blend: str = "gaussian",
    version: str | float | None = None,
    params: Mapping[str, Any] | None = None,
) -> Stage:
    """A function of your own: it is given an array, and returns one of the same shape.

    Parameters
    ----------
    file : a Python file
    function : the name of a function in it, which takes the image (z, y, x) or (y, x) as numpy, and by name `params`, and
        `voxel_um` where it has such a parameter
    voxel_um : voxel size, (z, y, x) or (y, x)
    returns : "probability", real numbers of any kind; "mask", booleans, or whole numbers of which 0 is ground; "labels", a whole number
        for each object and 0 for ground, which wants `tile`: each tile decides the voxels that are its own, and objects of two tiles
        are one where they are alike in what both looked at
    halo_um : how far it looks beyond a voxel, one number or one for each axis, 0 for not at all; this or `tile`. Where it says less than
        the function looks, the blocks show
    tile : voxels that are computed as one, for a function whose result depends on what it is shown, such as a network
    overlap, blend : of tiles; see `segment`. "crop" wants an overlap. Of a mask the blend is a vote, more than half of the weight; labels
        know no blend, and overlap by 0.25 of a tile unless given: an object that is shorter than that comes out as if it had been
        found in the whole volume
    version : a word or a number that changes when something does that the file imports
    params : the function's own parameters

    Returns
    -------
    A stage from any real image to float32, to bool for a mask, or to uint32 objects numbered by the raster order of their first voxel,
    which `label` after it keeps apart. At the volume's edge the array ends, and the function does there what it does. Matching: see
    `cristae.inference.matching`.

    Raises
    ------
    InvalidConfiguration : if the file has no such function, or not exactly one of `halo_um` and `tile` is given.
    InvalidInput : while it runs, if the function returns something of another shape, or other than it was said to return.
    """
    for name, word in (("file", file), ("function", function)):
        if not isinstance(word, str) or not word:
            raise InvalidConfiguration(f"python: {name} is {word!r}, but must be a name")
    path = Path(file).absolute()
    source = _source(path, function)
    ndim, given = len(voxel_um), dict(params or {})
    if returns not in RETURNS:
        raise InvalidConfiguration(f"python: returns is {returns!r}, but must be one of {', '.join(RETURNS)}")
    if returns == "labels":
        _refuse_blocks(tile, halo_um, blend)
    if (halo_um is None) == (tile is None):
        raise InvalidConfiguration(
            "python: give either halo_um, how far the function looks, or tile, what it is shown at once, and not both"
        )
    if tile is None and (overlap is not None or blend != "gaussian"):
        raise InvalidConfiguration("python: overlap and blend belong to tile; leave them out")
    said: dict[str, Any] = {
        "file": path.name,
        "function": function,
        "source_digest": hashlib.sha256(source.encode()).hexdigest(),
        **({"version": version} if version is not None else {}),
        **({"params": given} if given else {}),
        **({"returns": returns} if returns != "probability" else {}),
    }
    call = partial(
        called, source=source, path=str(path), function=function, params=given, voxel_um=voxel_um, returns=returns
    )
    output = _mask if returns == "mask" else _float32
    if tile is None:
        assert halo_um is not None
        halo = _halo(halo_um, voxel_um)
        said["halo_um"] = halo_um
        return Stage("python", said, partial(_around, call=call), halo, output, COST, boundary="ends")
    if returns == "labels":
        return _labels(said, call, _matched(ndim, tile, OVERLAP if overlap is None else overlap))
    tiling = tiling_of("python", ndim, tile, overlap, blend)
    said |= {"tile": tiling.tile, "blend": tiling.blend, "overlap": tiling.overlap}
    ns, one = COST.ns_per_voxel * tiling.visits_of_read, prod(tiling.tile) * COST.bytes_per_voxel
    cost = Cost(4.0, ns, one, HELD_BYTES)
    key = (said["source_digest"], function, repr(given), str(version), voxel_um, tiling.tile, returns)
    vote = partial(_tiled, call=call, tiling=tiling, key=key, vote=returns == "mask")
    return Stage("python", said, vote, tiling.halo, output, cost, boundary="ends")


def _refuse_blocks(tile: Any, halo_um: Any, blend: str) -> None:
    """What says how a function of voxels is cut, for one that finds objects."""
    if tile is None or halo_um is not None:
        raise InvalidConfiguration(
            "python: what returns labels wants tile, what it is shown at once, and no halo_um: objects have no reach"
        )
    if blend != "gaussian":
        raise InvalidConfiguration("python: labels are matched where tiles overlap and not blended; leave blend out")


def _matched(ndim: int, tile: Sequence[int], overlap: float) -> Tiling:
    """Tiles that each have their own voxels, and look half the overlap further wherever they are more than one voxel thick."""
    made = tiling_of("python", ndim, tile, overlap, "crop")
    if overlap == 0 or 2 in made.tile:
        what = f"overlap is {overlap!r}" if overlap == 0 else f"tile is {list(made.tile)}, too thin for an overlap"
        way = "give some, such as 0.25" if overlap == 0 else "use 1, or 3 and more"
        raise InvalidConfiguration(f"python: {what}, but labels are matched where tiles overlap; {way}")
    margin = tuple(ceil(t * overlap / 2 - 1e-9) if t > 1 else 0 for t in made.tile)
    try:
        return replace(made, margin=margin)
    except InvalidConfiguration as error:
        raise InvalidConfiguration(f"python: {error}") from None


def _labels(said: dict[str, Any], call: Callable[[np.ndarray], np.ndarray], tiling: Tiling) -> Stage:
    said |= {"tile": tiling.tile, "overlap": tiling.overlap}
    tiles = tile_labels(said, call, tiling, COST)
    asks = {"tiles": tiles, "ids": tile_ids(said, tiling, tiles)}
    return Stage(
        "python",
        said,
        partial(placed, tiling=tiling),
        no_halo(len(tiling.tile)),
        label_spec,
        placing_cost(tiling),
        asks=asks,
        boundary="ends",
        blockwise=True,
    )


def _source(path: Path, function: str) -> str:
    """The text of a file that defines the function; it is read, not run."""
    try:
        text = path.read_bytes().decode("utf-8-sig")
        tree = ast.parse(text, str(path))
    except FileNotFoundError:
        raise InvalidConfiguration(f"python: there is no file {path}") from None
    except OSError as error:
        raise InvalidConfiguration(f"python: {path} cannot be read: {error.strerror}") from None
    except (SyntaxError, ValueError) as error:
        line = f", line {error.lineno}" if isinstance(error, SyntaxError) and error.lineno else ""
        raise InvalidConfiguration(f"python: {path}{line} is no Python: {getattr(error, 'msg', error)}") from None
    defined = [n.name for n in tree.body if isinstance(n, ast.FunctionDef)]
    if function not in defined:
        raise InvalidConfiguration(
            f"python: {path} defines no function {function} at its top; it has {', '.join(defined) or 'none'}"
        )
    return text


def _halo(halo_um: float | Sequence[float], voxel_um: tuple[float, ...]) -> Halo:
    given: Any = halo_um
    lengths = list(given) if isinstance(given, list | tuple) else [given] * len(voxel_um)
    right = all(isinstance(h, int | float) and not isinstance(h, bool) and 0 <= h < 1e6 for h in lengths)
    if not right or len(lengths) != len(voxel_um):
        raise InvalidConfiguration(
            f"python: halo_um is {halo_um!r}, but must be a length in um, 0 or more, or one for each of {len(voxel_um)} axes"
        )
    return tuple((n, n) for n in (ceil(h / v - 1e-9) for h, v in zip(lengths, voxel_um, strict=True)))


def _around(array: Array, *, at: At, answers: Mapping[str, Answer], call: Callable[[np.ndarray], np.ndarray]) -> Array:
    ndim = len(at.out.start)
    assert array.ndim == ndim
    return namespace(array).asarray(call(to_host(array))[at.out.within(at.reads[0])])


def _tiled(
    array: Array,
    *,
    at: At,
    answers: Mapping[str, Answer],
    call: Callable[[np.ndarray], np.ndarray],
    tiling: Tiling,
    key: tuple[Any, ...],
    vote: bool,
) -> Array:
    predict = (lambda tile: call(tile).astype(np.float32)) if vote else call
    found = blended(to_host(array), at, tiling, predict, key)
    return namespace(array).asarray(found > 0.5 if vote else found)


def called(
    array: np.ndarray,
    *,
    source: str,
    path: str,
    function: str,
    params: Mapping[str, Any],
    voxel_um: tuple[float, ...],
    returns: str = "probability",
) -> np.ndarray:
    """What the function gives: float32, for a mask bool, and for labels whole numbers as they are."""
    with _MAKING:
        run = getattr(_module(source, path), function)
    extra = {"voxel_um": voxel_um} if "voxel_um" in inspect.signature(run).parameters else {}
    # A copy in the machine's byte order: what the function does to its input is its own affair.
    name = f"{Path(path).name}:{function}"
    try:
        found = run(np.array(array, array.dtype.newbyteorder("="), order="C"), **{**extra, **params})
    except (CristaeError, MemoryError, OSError):
        raise
    except Exception as error:
        lines = [f.lineno for f in extract_tb(error.__traceback__) if f.filename == path]
        raise RuntimeError(
            f"{name} failed in line {lines[-1] if lines else '?'} of {path}: {type(error).__name__}: {error}"
        ) from error
    kinds, right = KINDS[returns]
    if not isinstance(found, np.ndarray) or found.dtype.kind not in kinds:
        what = f"an array of {found.dtype}" if isinstance(found, np.ndarray) else f"a {type(found).__name__}"
        raise InvalidInput(f"{name} returned {what}; it should return a numpy array of {right}")
    if found.shape != array.shape:
        raise InvalidInput(
            f"{name} was given {array.shape} voxels and returned {found.shape}; it should keep the shape"
        )
    if returns == "mask":
        return np.not_equal(found, 0)
    if returns == "labels":
        if found.min() < 0:
            raise InvalidInput(f"{name} returned a label of {found.min()}; labels are whole numbers, 0 for ground")
        return found
    return found.astype(np.float32)


KINDS: Mapping[str, tuple[str, str]] = {
    "probability": ("biuf", "real numbers"),
    "mask": ("biu", "booleans, or whole numbers of which 0 is ground (returns: mask)"),
    "labels": ("iu", "whole numbers, one for each object and 0 for ground (returns: labels)"),
}
"""Kinds of numpy's types that a function may return, and what they are in words."""

_MAKING = Lock()


@lru_cache(maxsize=16)
def _module(source: str, path: str) -> ModuleType:
    """The file's module, made once a process of the source that was planned with; modules beside it can be imported."""
    made = ModuleType(f"cristae_python_{hashlib.sha256(source.encode()).hexdigest()[:12]}")
    made.__file__ = path
    folder = str(Path(path).parent)
    sys.modules[made.__name__] = made  # dataclasses and pickles look there
    # Another list each time: one that changes while another thread searches it for a module may lose it one.
    sys.path = [folder, *sys.path]
    try:
        exec(compile(source, path, "exec"), made.__dict__)
    except ImportError as error:
        raise InvalidInput(f"{path} cannot be used: {error}; install what it needs") from None
    except (Exception, SystemExit) as error:
        why = " ".join(f"{type(error).__name__}: {error}".split()).rstrip(": ")
        raise InvalidInput(f"{path} cannot be used: it ends with {why} before any function is called") from error
    finally:
        left = list(sys.path)
        with suppress(ValueError):
            left.remove(folder)
        sys.path = left
    return made


def _float32(spec: Spec) -> Spec:
    return Spec(spec.shape, "float32", spec.voxel_um)


def _mask(spec: Spec) -> Spec:
    return Spec(spec.shape, "bool", spec.voxel_um)
