"""Simulation: microscope images from physics and a seed, and exactly what is in them.

    curves, shapes, networks          lines; what an organelle is in space, and its emitters
    cells, crops                      what is where: volumes full of cells, and the small images of the papers
    placing, meetings                 room for the objects of a cell; which of them touch and cross others
    transfer, layers                  light from any number of emitters into the planes of an image
    kinetics, camera                  photons of an emitter in a frame; photons become counts
    exposure, tiles                   the stages: image and labels of cells, and of tiles
    solid, truth                      which voxels belong to which object, by shape, by emitter, or by the picture
    records                           what is known exactly of every object, as rows
    physeg                            the published simulator with its defects, to compare with
    lessons                           scenes under many cameras, for networks to learn from
    presets                           simulations by name; the numbers stand in presets.yaml

Everything is a pure function of a frozen description and a box. Lengths are micrometres, axes (z, y, x).
"""
