"""Simulate: the commands that make images from physics: tiles for training, whole cells, and the PSF itself."""

from __future__ import annotations

from typing import Annotated

import typer

from cristae.errors import UsageError
from cristae_cli import options as o
from cristae_cli.running import run_job

app = typer.Typer(
    no_args_is_help=True,
    help="Simulate a microscope image with exact truth, from nothing but a seed.",
    context_settings={"help_option_names": ["-h", "--help"]},
)

Seed = Annotated[
    int, typer.Option("--seed", help="Another number gives another image; the same gives the same voxels.")
]
Out = Annotated[str, typer.Option("--out", help="The store to write, ending in .zarr.")]


@app.command()
def tiles(
    preset: Annotated[str, typer.Option("--preset", help="Such as physeg-epi1-mito, or sam-mito; list shows all.")],
    out: Out,
    count: Annotated[int, typer.Option("--count", help="How many tiles; each is a time point of the store.")] = 100,
    seed: Seed = 1,
    truth: Annotated[
        str,
        typer.Option("--truth", help="Rule of the labels: emitters, solid, otsu, otsu-eroded, noise or noise-half."),
    ] = "emitters",
    physeg_compat: Annotated[
        bool, typer.Option("--physeg-compat", help="With the defects of the published simulator.")
    ] = False,
    cluster: o.Cluster = "auto",
    memory: o.Memory = None,
    fresh: o.Fresh = False,
) -> None:
    """Make small images for training, each with its labels."""
    from cristae.pipeline.simulating import tiles_job
    from cristae.simulation.tiles import Tiles

    job = tiles_job(Tiles(preset, seed, truth, physeg_compat), count, out)
    run_job(job, o.settings(cluster, memory, None, "cpu", fresh))


@app.command()
def cell(
    out: Out,
    preset: Annotated[str, typer.Option("--preset", help="Such as cell-epi; list shows all.")] = "cell-epi",
    shape: Annotated[str, typer.Option("--shape", help="Voxels of the volume, Z,Y,X.")] = "64,512,512",
    seed: Seed = 1,
    voxel_um: Annotated[
        str | None, typer.Option("--voxel-um", help="Voxel size in micrometres, Z,Y,X; by default the preset's.")
    ] = None,
    organelles: Annotated[
        str | None, typer.Option("--organelles", help="Only these, such as mito,nucleus; by default all of the preset.")
    ] = None,
    contacts: Annotated[
        float, typer.Option("--contacts", help="Part of the objects of a kind that touch another of it, 0 to 1.")
    ] = 0.0,
    crossings: Annotated[
        float, typer.Option("--crossings", help="Part of the objects of a kind that overlap another of it, 0 to 1.")
    ] = 0.0,
    frames: Annotated[
        int, typer.Option("--frames", help="Time points; objects stay where they are, emitters blink and bleach.")
    ] = 1,
    frame_s: Annotated[
        float, typer.Option("--frame-s", help="Seconds from frame to frame; photons are per frame, whatever it lasts.")
    ] = 0.1,
    on_s: Annotated[float, typer.Option("--on-s", help="Seconds that an emitter is on before it goes off.")] = 0.0,
    off_s: Annotated[float, typer.Option("--off-s", help="Seconds that it is off; 0: emitters are always on.")] = 0.0,
    bleach_s: Annotated[float, typer.Option("--bleach-s", help="Seconds until it bleaches; 0: never.")] = 0.0,
    psf: Annotated[
        str | None, typer.Option("--psf", help="A stack of one bead, whose image takes the place of the computed PSF.")
    ] = None,
    cluster: o.Cluster = "auto",
    memory: o.Memory = None,
    block: o.Block = None,
    pyramid: o.Pyramid = True,
    fresh: o.Fresh = False,
) -> None:
    """Make a volume of cells: a channel, labels and exact tables for each kind of organelle."""
    from cristae.optics.bead import bead_of
    from cristae.pipeline.simulating import cell_job
    from cristae.simulation.cells import Scene
    from cristae.simulation.presets import preset as facts

    size = o.shape(shape, "--shape")
    sides = o.voxel_um(voxel_um) or tuple(facts("cells", preset)["voxel_um"])
    kinds = [word.strip() for word in organelles.split(",")] if organelles else ()
    light = frame_s, on_s, off_s, bleach_s
    bead = None if psf is None else bead_of(psf)
    scene = Scene(preset, size, seed, sides, contacts, crossings, *light, bead)  # type: ignore[arg-type]
    job = cell_job(scene, out, kinds, frames)
    run_job(job, o.settings(cluster, memory, block, "cpu", fresh, pyramid=pyramid))


@app.command("list")
def list_() -> None:
    """Name the presets and what they are."""
    from cristae.simulation.presets import presets

    for product in ("tiles", "cells"):
        for name, found in presets(product).items():
            print(f"{product:6} {name:22} {found['about']}")


def psf(
    out: Out,
    preset: Annotated[str | None, typer.Option("--preset", help="A microscope, such as epi1 or confocal.")] = None,
    like: Annotated[
        str | None, typer.Option("--like", help="An image that says its own optics: OME-TIFF, ND2 or CZI.")
    ] = None,
    channel: Annotated[str | None, typer.Option("--channel", help="Whose light, of the image of --like.")] = None,
    shape: Annotated[str, typer.Option("--shape", help="Voxels, Z,Y,X; the point is in the middle.")] = "65,129,129",
    voxel_um: Annotated[str | None, typer.Option("--voxel-um", help="Voxel size in micrometres, Z,Y,X.")] = None,
    depth_um: Annotated[float, typer.Option("--depth-um", help="Of the point above the coverslip.")] = 0.0,
    na: Annotated[float | None, typer.Option("--na", help="Numerical aperture.")] = None,
    emission_um: Annotated[float | None, typer.Option("--emission-um", help="Wavelength in vacuum.")] = None,
    excitation_um: Annotated[float | None, typer.Option("--excitation-um", help="For confocal and Airyscan.")] = None,
    n_sample: Annotated[float | None, typer.Option("--n-sample", help="Refractive index of the sample.")] = None,
    n_immersion: Annotated[
        float | None, typer.Option("--n-immersion", help="Refractive index of the immersion.")
    ] = None,
    modality: Annotated[
        str | None, typer.Option("--modality", help="widefield, confocal, airyscan, airyscan-square or light-sheet.")
    ] = None,
    model: Annotated[str | None, typer.Option("--model", help="scalar, vectorial or gaussian.")] = None,
    pinhole_au: Annotated[float | None, typer.Option("--pinhole-au", help="Diameter in Airy units.")] = None,
    sheet_fwhm_um: Annotated[float | None, typer.Option("--sheet-fwhm-um", help="Thickness of a light sheet.")] = None,
    fresh: o.Fresh = False,
) -> None:
    """Compute the image of a point: the PSF, with a picture of its sections and its widths beside theory."""
    from cristae.pipeline.pointing import psf_job, scope_of

    given = {
        "na": na,
        "emission_um": emission_um,
        "excitation_um": excitation_um,
        "n_sample": n_sample,
        "n_immersion": n_immersion,
        "modality": modality,
        "model": model,
        "pinhole_au": pinhole_au,
        "sheet_fwhm_um": sheet_fwhm_um,
    }
    if preset is not None and like is not None:
        raise UsageError("--preset and --like both name a microscope; give one of them")
    scope = scope_of(preset, like, channel, given)
    sides = o.voxel_um(voxel_um)
    job = psf_job(scope, o.shape(shape, "--shape"), sides, depth_um, out)  # type: ignore[arg-type]
    run_job(job, o.settings("none", None, None, "cpu", fresh, pyramid=False))
