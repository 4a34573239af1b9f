"""After: the commands that look at what a run left: how it stands, whether it is whole, what it shows, what may go."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated

import typer

from cristae.errors import UsageError
from cristae_cli import options as o

if TYPE_CHECKING:
    from cristae.pipeline.viewing import View


def status(
    output: o.Output,
    failed: Annotated[bool, typer.Option("--failed", help="The blocks set aside, with their tracebacks.")] = False,
    watch: Annotated[bool, typer.Option("--watch", help="Look again every 2 seconds until the run ends.")] = False,
    json: o.Json = False,
) -> None:
    """Say what is done, what failed and who is at it."""
    from time import sleep

    from cristae.pipeline.status import runs_at
    from cristae.pipeline.status import status as status_of
    from cristae_cli.show import show_status

    while True:
        found = [status_of(state) for state in runs_at(output)]
        show_status(found, failed, json)
        if not watch or all(s.state != "running" for s in found):
            return
        sleep(2)


def audit(
    output: o.Output,
    inputs: Annotated[
        bool, typer.Option("--inputs", help="Compare the inputs' voxels with those that were read.")
    ] = False,
) -> None:
    """Compare what is stored with what was written; the run's own command mends what is found."""
    from cristae.errors import Damaged
    from cristae.pipeline.audit import audit as audit_of
    from cristae.pipeline.status import runs_at
    from cristae_cli.talk import say

    found = [audit_of(state, inputs=inputs) for state in runs_at(output)]
    for one in found:
        for finding in (*one.findings, *one.changed):
            print(f"{finding.what}: {finding.why}")
        say(f"{one.name}: {one.objects} objects compared, {len(one.findings)} damaged")
    if damaged := sum(len(one.findings) for one in found):
        raise Damaged(f"{damaged} of the objects are damaged; give the run's own command again and it makes them anew")
    if changed := sum(len(one.changed) for one in found):
        raise Damaged(
            f"the result is whole, but {changed} blocks of its input are not what was read; put the old voxels back, or make the result "
            "again with --fresh"
        )


def view(
    output: o.Output,
    colour: Annotated[str, typer.Option("--colour", help="A column of the table to colour objects by.")] = "",
    page: Annotated[bool, typer.Option("--page", help="The page, also where napari is installed.")] = False,
    port: Annotated[int, typer.Option("--port", help="Port of the page; 0 takes a free one.")] = 0,
    browser: Annotated[
        bool, typer.Option("--browser/--no-browser", help="Open the page, or only print where it is.")
    ] = True,
) -> None:
    """Look at labels over their image, coloured by any column: in napari where it and Qt are, else on a page of this machine alone."""
    from cristae.pipeline.viewing import views

    found = views(output)
    if colour and not any(colour in one.columns for one in found):
        from cristae.pipeline.document import nearest

        names = sorted({name for one in found for name in one.columns})
        raise UsageError(
            f"--colour {colour}: no table here has that column; {nearest(colour, names, 'its columns are')}"
        )
    from cristae.pipeline.layers import can_show, show

    if can_show() and not page:
        return show(found, colour)
    return _serve(found, colour, port, browser)


def _serve(found: Sequence[View], colour: str, port: int, browser: bool) -> None:
    """The page, until it is stopped."""
    import webbrowser

    from cristae.errors import Stopped
    from cristae.pipeline.serving import address_of, server_of
    from cristae_cli.talk import say

    with server_of(found, port) as server:
        address = address_of(server) + (f"?colour={colour}" if colour else "")
        print(address, flush=True)
        say("this machine alone can open it; Ctrl-C ends it")
        if browser:
            webbrowser.open(address)
        try:
            server.serve_forever()
        except (KeyboardInterrupt, Stopped):
            return


def report(
    output: Annotated[str, typer.Argument(help="The folder that run --out wrote, or one object's folder in it.")],
    by: Annotated[str | None, typer.Option("--by", help="A column of the sample sheet, such as condition.")] = None,
) -> None:
    """Write report.html: pictures, distributions with images as replicates, what looks odd, methods."""
    from pathlib import Path

    from cristae.pipeline.report import write_report

    folder = Path(output)
    objects = (
        [] if (folder / "objects.parquet").exists() else sorted(p.parent for p in folder.glob("*/objects.parquet"))
    )
    for one in objects or [folder]:
        print(write_report(one, by))


def export(
    output: o.Output,
    to: Annotated[str, typer.Option("--to", help="The format: ome-tiff.")] = "ome-tiff",
    out: Annotated[
        str | None, typer.Option("--out", help="Folder of the files; export/ in OUTPUT, or beside a single store.")
    ] = None,
) -> None:
    """Write labels, or any image, as OME-TIFF, for Fiji, Imaris and whatever does not read OME-Zarr."""
    from pathlib import Path

    from cristae.pipeline.exporting import arrays_of, export_folder
    from cristae.pipeline.exporting import export as export_one
    from cristae.store.finding import stem

    if to != "ome-tiff":
        raise UsageError(f"--to {to} is not known; the only format is ome-tiff")
    folder = Path(out) if out is not None else export_folder(output)
    for source in arrays_of(output):
        final = folder / f"{stem(source)}.ome.tif"
        export_one(source, final)
        print(final)


def clean(
    output: o.Output,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only say what would go.")] = False,
) -> None:
    """Delete results that were replaced by --fresh, and the state of their runs. What is in place stays."""
    from cristae.pipeline.cleaning import clean as clean_one
    from cristae.pipeline.cleaning import leftovers
    from cristae.pipeline.status import runs_at
    from cristae_cli.talk import say

    found = [
        left for state in runs_at(output, replaced=True) for left in (leftovers(state) if dry_run else clean_one(state))
    ]
    for left in found:
        print(f"{left.path}: {left.what}, {left.size / 2**20:.1f} MiB")
    folders = f"{len(found)} folder{'s' * (len(found) != 1)}, {sum(left.size for left in found) / 2**20:.1f} MiB"
    say(f"{folders} would go" if dry_run else f"{folders} deleted" if found else "nothing to clean")
