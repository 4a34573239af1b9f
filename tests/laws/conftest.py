"""The laws are modules that tests, and the processes that measure memory, import as `laws.NAME`."""

from __future__ import annotations

import sys
from pathlib import Path

TESTS = str(Path(__file__).resolve().parents[1])

if TESTS not in sys.path:
    sys.path.append(TESTS)
