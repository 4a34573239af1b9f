"""Familiar: the command that says how far an image is from what a model was trained on. The line goes to stdout, or JSON."""

from __future__ import annotations

from typing import Annotated

import typer

from cristae_cli import options as o


def check_model(
    model: Annotated[str, typer.Argument(help="A model by name, or a .safetensors file.")],
    image: Annotated[str, typer.Argument(help="The image it would be used on.")],
    json: Annotated[bool, typer.Option("--json", help="Print JSON, with every feature.")] = False,
    picture: Annotated[
        str | None, typer.Option("--picture", help="Draw the number in its null, spectra, a tile, .png.")
    ] = None,
    axes: o.Axes = None,
    voxel_um: o.VoxelUm = None,
    channel: o.Channel = None,
    time: o.Time = None,
    scene: o.Scene = None,
    crop: o.Crop = None,
) -> None:
    """Say how far an image is from what a model was trained on, in one number; a few tiles are read, no network runs."""
    o.picture(picture, "--picture")
    from cristae.pipeline.familiar import check_model as check
    from cristae_cli.talk import say

    found = check(model, image, o.inputs(axes, voxel_um, None, channel, time, scene, crop))
    if picture is not None:
        from pathlib import Path

        from cristae.pipeline.familiar_picture import familiar_picture
        from cristae.pipeline.picture import write_png

        Path(picture).absolute().parent.mkdir(parents=True, exist_ok=True)
        write_png(picture, familiar_picture(found))
    if json:
        from json import dumps

        print(dumps(found.facts))
    else:
        print(found.sentence)
        for note in found.notes:
            say(note)
    if picture is not None:
        say(picture)
