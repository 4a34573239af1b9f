"""Running: one job carried out, with progress while it goes and its outputs on stdout at the end; or only planned."""

from __future__ import annotations

from typing import Any

from cristae.errors import CristaeError, Stopped


def run_job(job: Any, settings: Any, on_finish: str | None = None, dry_run: bool = False) -> None:
    """Do a job, or say what doing it would be; `on_finish` is a command that is told how it ended."""
    if dry_run:
        show_only(job, settings)
        return
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


def show_only(job: Any, settings: Any) -> None:
    """Say what doing a job would be; nothing is written."""
    from cristae.pipeline.execute import outlook
    from cristae_cli.talk import say

    course = outlook(job, settings)
    for name, why in job.left_out.items():
        say(f"{name} would be left out: {why}")
    plan_out(job, settings)
    say(f"a run would {course}")


def plan_out(job: Any, settings: Any, probe: bool = False, json: bool = False, workers: int | None = None) -> None:
    """The plan of a job, shown."""
    from cristae.pipeline.execute import plan as plan_of
    from cristae_cli.show import show_plan

    made, limit = plan_of(job, settings)
    timed = None
    if probe:
        from cristae.pipeline.probe import probe as measure_one

        timed = measure_one(job, settings)
    show_plan(made, limit, job.choices, timed, workers, json)
