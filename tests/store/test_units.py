"""Units: every spelling seen in microscope files means the same length."""

import pytest

from cristae.store.units import micrometres, seconds


@pytest.mark.parametrize(
    "word", ["um", "µm", "μm", "micron", "Microns", "micrometer", "micrometre", "\\u00B5m", " um "]
)
def test_a_micrometre_has_many_names(word: str) -> None:
    assert micrometres(word) == 1.0


@pytest.mark.parametrize(
    ("word", "um"),
    [
        ("nm", 1e-3),
        ("nanometer", 1e-3),
        ("mm", 1e3),
        ("cm", 1e4),
        ("m", 1e6),
        ("inch", 25400.0),
        ("\u212b", 1e-4),
        ("\u00c5", 1e-4),
    ],
)
def test_other_lengths(word: str, um: float) -> None:
    assert micrometres(word) == um


@pytest.mark.parametrize("word", ["pixel", "", "furlong", "second", "reference frame"])
def test_what_is_no_length_is_none(word: str) -> None:
    assert micrometres(word) is None


@pytest.mark.parametrize(("word", "s"), [("s", 1.0), ("sec", 1.0), ("ms", 1e-3), ("minute", 60.0), ("hour", 3600.0)])
def test_times(word: str, s: float) -> None:
    assert seconds(word) == s
    assert seconds("um") is None
