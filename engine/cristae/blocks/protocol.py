"""Protocol: the steps of a run at which it may be killed, each with a name. Nothing else: `reached` does nothing.

The names are the contract of the fault campaign, which kills a worker or the driver at every one of them and expects the
same bytes in the end. CRISTAE_DIE_AT=NAME:N ends the process, as SIGKILL would, when it reaches NAME for the N-th time.
"""

from __future__ import annotations

import os
from itertools import count

WORKER = ("read", "computed", "written", "partials-stored")
DRIVER = (
    "claimed",
    "begun",
    "sink-made",
    "handed-out",
    "received",
    "journalled",
    "answer-written",
    "answer-journalled",
    "files-written",
    "published-marked",
    "in-place",
    "listed",
    "scratch-dropped",
    "completed",
)
STEPS = WORKER + DRIVER

_NAME, _, _NTH = os.environ.get("CRISTAE_DIE_AT", "").partition(":")
_seen = count(1)


def reached(step: str) -> None:
    """The process is at `step` of the protocol."""
    if step == _NAME and next(_seen) >= int(_NTH or 1):
        os._exit(137)
