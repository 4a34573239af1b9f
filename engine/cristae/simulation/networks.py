"""Networks: tubes that branch and close loops, as one object.

A network is the union of tubes of one radius: a trunk, branches that begin on its axis, and arcs that leave it and come back.
Where tubes meet there is no closed formula: volume, surface and centre of mass come from SAMPLES points even over all tubes,
of which each place counts once, and are right to about 0.5 %.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from cristae.draws import stream
from cristae.simulation.shapes import Tube

Floats = NDArray[np.float64]
SAMPLES = 20_000


@dataclass(frozen=True, eq=False)
class Network:
    """Tubes that touch; `junctions` are the places where one begins or ends on another, `loops` the arcs."""

    tubes: tuple[Tube, ...]
    junctions: int = 0
    loops: int = 0

    @property
    def radius_um(self) -> float:
        return self.tubes[0].radius_um

    @property
    def length_um(self) -> float:
        return sum(tube.length_um for tube in self.tubes)

    @cached_property
    def _facts(self) -> tuple[float, float, Floats]:
        """Volume, surface and centre of mass."""
        rng = stream("network")
        volume = surface = 0.0
        moment = np.zeros(3)
        for n, tube in enumerate(self.tubes):
            part = tube.length_um / self.length_um * SAMPLES
            inside = tube.emitters(rng, part / (tube.volume_um3 * 1e3), "volume")
            own = ~self._within(inside, range(n))
            volume += tube.volume_um3 * float(own.mean())
            moment += tube.volume_um3 * (inside * own[:, None]).mean(axis=0)
            outside = tube.emitters(rng, part / (tube.area_um2 * 1e3), "membrane")
            surface += tube.area_um2 * float((~self._within(outside, self._others(n))).mean())
        return volume, surface, moment / volume

    @property
    def volume_um3(self) -> float:
        return self._facts[0]

    @property
    def area_um2(self) -> float:
        return self._facts[1]

    @property
    def centroid_um(self) -> Floats:
        return self._facts[2]

    @property
    def box_um(self) -> tuple[Floats, Floats]:
        boxes = [tube.box_um for tube in self.tubes]
        return np.min([low for low, _ in boxes], axis=0), np.max([high for _, high in boxes], axis=0)

    def emitters(self, rng: np.random.Generator, density: float, labelling: str = "membrane") -> Floats:
        """(n, 3) points, even over the membrane of the whole, or its inside."""
        found = []
        for n, tube in enumerate(self.tubes):
            points = tube.emitters(rng, density, labelling)
            hidden = self._within(points, self._others(n) if labelling == "membrane" else range(n))
            found.append(points[~hidden])
        return np.concatenate(found)

    def moved(self, by_um: Floats) -> Network:
        """The same network elsewhere."""
        return Network(tuple(tube.moved(by_um) for tube in self.tubes), self.junctions, self.loops)

    def signed_distance(self, points: Floats) -> Floats:
        """(n,) micrometres to the nearest surface of a tube, negative inside."""
        found: Floats = np.min([tube.signed_distance(points) for tube in self.tubes], axis=0)
        return found

    def _others(self, n: int) -> list[int]:
        return [k for k in range(len(self.tubes)) if k != n]

    def _within(self, points: Floats, tubes: range | list[int]) -> NDArray[np.bool_]:
        """Which points lie in one of these tubes."""
        found = np.zeros(len(points), bool)
        for k in tubes:
            low, high = self.tubes[k].box_um
            near = ~found & ((points >= low) & (points <= high)).all(axis=1)
            if near.any():
                found[near] = self.tubes[k].signed_distance(points[near]) < 0
        return found
