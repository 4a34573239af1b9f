"""Libraries: a format's own library, and how what it lacks or raises becomes one sentence about the file."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from importlib import import_module
from pathlib import Path
from typing import Any

from cristae.errors import CristaeError, InvalidInput, MissingExtra


def extra(module: str, path: Path, name: str = "formats") -> Any:
    """A reader's library, or the sentence that says how to get it."""
    try:
        return import_module(module)
    except ImportError:
        raise MissingExtra(f"reading {path} needs the extra {name}; pip install 'cristae[{name}]'") from None


@contextmanager
def reading(path: Path, kind: str) -> Iterator[None]:
    """Whatever a library raises about a file becomes one sentence about it; its own errors have no common class."""
    try:
        yield
    except (CristaeError, MemoryError):
        raise
    except OSError as error:
        if error.errno is not None:
            raise
        raise InvalidInput(_broken(path, kind, error)) from error
    except Exception as error:
        raise InvalidInput(_broken(path, kind, error)) from error


def _broken(path: Path, kind: str, error: Exception) -> str:
    said = " ".join(str(error).split())[:160] or type(error).__name__
    return f"{path} is not a whole {kind} file: {said}"
