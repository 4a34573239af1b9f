"""Running: one job carried out, with progress while it goes and its outputs on stdout at the end."""

from __future__ import annotations

from typing import Any

from cristae.errors import CristaeError, Stopped


def run_job(job: Any, settings: Any, on_finish: str | None = None) -> None:
    """Do a job; `on_finish` is a command that is told how it ended."""
    from cristae.pipeline.execute import execute
    from cristae_cli.talk import progress, say, tell

    code = 1
    try:
        with progress() as listen:
            outcome = execute(job, settings, listen)
        code = 0
    except (CristaeError, Stopped) as error:
        code = error.exit_code
        raise
    finally:
        if on_finish is not None:
            tell(on_finish, code, job.root)
    if outcome.status == "nothing to do":
        say("nothing to do: the result is complete")
    for path in outcome.outputs:
        print(path)
