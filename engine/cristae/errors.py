"""Errors: everything a user can cause, one class and one exit code per kind.

    CristaeError                1   the run failed; what is committed is kept, the same command resumes
    ├── UsageError              2   the command line cannot be understood
    ├── InvalidInput            3   a file, an array or its metadata
    │   ├── MissingExtra        3   a reader or codec that is not installed
    │   └── SeveralScenes       3   a file of several images, none of them named
    ├── InvalidConfiguration    3   a pipeline file or a parameter
    ├── PlanRefused             3   the plan says no before the first byte moves
    ├── SetAside                4   finished, but some blocks failed and were set aside
    ├── Claimed                 5   another run holds this output
    └── Damaged                 6   what is stored is not what was written

    Stopped               130, 143   the user, the system or the scheduler asked the run to stop

`Stopped` is no Exception: code that looks after failing blocks lets it pass.

A message is one sentence: what, where, the value, and the way out. An error that is not of this tree
is a defect of cristae, and travels up untouched.
"""


class CristaeError(Exception):
    """The run failed, and can be resumed."""

    exit_code = 1


class UsageError(CristaeError):
    """The command line cannot be understood."""

    exit_code = 2


class InvalidInput(CristaeError):
    """A file, an array or its metadata cannot be used."""

    exit_code = 3


class MissingExtra(InvalidInput):
    """A reader or codec is not installed; the message names the extra that brings it."""


class SeveralScenes(InvalidInput):
    """A file holds several images and none is named; `scenes` are their names in order."""

    def __init__(self, message: str, scenes: tuple[str, ...] = ()) -> None:
        super().__init__(message)
        self.scenes = scenes


class InvalidConfiguration(CristaeError):
    """A pipeline file or a parameter is wrong."""

    exit_code = 3


class PlanRefused(CristaeError):
    """The plan does not fit: memory, disk, the write unit, or a result that belongs to other inputs."""

    exit_code = 3


class SetAside(CristaeError):
    """The run finished but some blocks failed and were set aside."""

    exit_code = 4


class Claimed(CristaeError):
    """Another run holds this output."""

    exit_code = 5


class Damaged(CristaeError):
    """What is stored is not what was written."""

    exit_code = 6


class Stopped(BaseException):
    """The run was asked to stop; `exit_code` is 128 + the signal's number."""

    exit_code = 130

    def __init__(self, message: str, signal: int = 2) -> None:
        super().__init__(message)
        self.exit_code = 130 if signal == 2 else 143
