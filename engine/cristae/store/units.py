"""Units: every common spelling of a length or a time, as micrometres and seconds.

Inside cristae lengths are micrometres and times are seconds; this is the only place that knows other words.
"""

from __future__ import annotations

import re

_MICROMETRES = {
    "pm picometer picometre picometers picometres": 1e-6,
    "å a angstrom angstroms ångström ångstrom": 1e-4,
    "nm nanometer nanometre nanometers nanometres": 1e-3,
    "µm um micron microns micrometer micrometre micrometers micrometres": 1.0,
    "mm millimeter millimetre millimeters millimetres": 1e3,
    "cm centimeter centimetre centimeters centimetres": 1e4,
    "dm decimeter decimetre decimeters decimetres": 1e5,
    "m meter metre meters metres": 1e6,
    "in inch inches": 25400.0,
}
_SECONDS = {
    "ns nsec nanosecond nanoseconds": 1e-9,
    "µs us usec microsecond microseconds": 1e-6,
    "ms msec millisecond milliseconds": 1e-3,
    "s sec secs second seconds": 1.0,
    "min mins minute minutes": 60.0,
    "h hr hrs hour hours": 3600.0,
    "d day days": 86400.0,
}


def _by_word(spellings: dict[str, float]) -> dict[str, float]:
    return {word: factor for words, factor in spellings.items() for word in words.split()}


_LENGTHS, _TIMES = _by_word(_MICROMETRES), _by_word(_SECONDS)


def micrometres(unit: str) -> float | None:
    """How many micrometres one `unit` is; None where the word is not a length (such as "pixel")."""
    return _LENGTHS.get(_plain(unit))


def seconds(unit: str) -> float | None:
    """How many seconds one `unit` is; None where the word is not a time."""
    return _TIMES.get(_plain(unit))


def _plain(unit: str) -> str:
    # ImageJ writes the micro sign as the six letters \u00B5. Greek mu (U+03BC) looks like the sign (U+00B5), and the
    # angstrom sign (U+212B) like the letter (U+00C5); lower() maps that one by itself.
    text = re.sub(r"\\u([0-9A-Fa-f]{4})", lambda m: chr(int(m[1], 16)), unit)
    return text.lower().replace("\u03bc", "µ").strip(' ."')
