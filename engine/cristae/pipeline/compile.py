"""Compile: steps become passes. A pass ends only where a global answer is needed, or the work is done.

Each step is a node that works on another node's output; the first works on the input. A stage that asks for a global answer
makes a pass over what it reads, before it. Where such a pass has computed something dear that is needed again, it leaves it in
the run's scratch; what is cheap is computed again. `staged` says which, and why.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import count, pairwise
from math import prod

import numpy as np

from cristae.blocks.measure import Measure
from cristae.blocks.stage import Spec, Stage
from cristae.blocks.work import Asked, Pass, Ref, Target
from cristae.errors import InvalidConfiguration

WRITE_NS_PER_BYTE = 4.0
READ_NS_PER_BYTE = 1.5
SEVERAL = 4.0
"""Voxels that are read for each that is given, above which a block is not read while another is computed."""
GAIN = 2.0
"""A scratch must save this many times what it costs: it also takes disk, and a pass of its own to repair."""


@dataclass(frozen=True)
class Node:
    """One stage of an object's steps, and the node it works on (None: the input)."""

    name: str
    stage: Stage
    parent: Node | None
    spec: Spec
    keep: bool = False  # its output stays for later runs
    beside: Ref | None = None  # a second input, read where the stage reads its first

    @property
    def chain(self) -> tuple[Node, ...]:
        return (*self.parent.chain, self) if self.parent else (self,)


@dataclass(frozen=True)
class Choice:
    """Whether a node's output is staged in scratch or computed again, and the price of both, in ns per voxel."""

    node: str
    uses: int
    staged: bool
    again_ns: float
    scratch_ns: float


@dataclass
class Passes:
    """Passes as they come, in the order in which they must run."""

    source: Ref
    source_spec: Spec
    prefix: str
    kept: set[int] = field(default_factory=set)  # nodes (by id) that scratch will hold where a pass ends at them
    cut: set[int] = field(default_factory=set)  # nodes at which a pass must end
    passes: list[Pass] = field(default_factory=list)
    targets: list[Target] = field(default_factory=list)
    arrays: dict[int, str] = field(default_factory=dict)  # node -> scratch array that holds it by now
    keys: dict[tuple[int, str], str] = field(default_factory=dict)  # (node, measure) -> answer key
    names: dict[int, str] = field(default_factory=dict)  # node -> its name here, which no other node has

    def called(self, node: Node | None) -> str:
        """A node's name in keys and arrays; the second ridge of a chain is ridge-2."""
        if node is None:
            return "input"
        if id(node) not in self.names:
            taken = {"input", *self.names.values()}
            tries = (node.name if n == 1 else f"{node.name}-{n}" for n in count(1))
            self.names[id(node)] = next(name for name in tries if name not in taken)
        return self.names[id(node)]

    def end(self, node: Node | None, sink: Target | None, measures: Sequence[Asked]) -> None:
        """The pass that makes an output: writes the node's array, shows it to the table's measures."""
        self.answer_for(node)
        self.emit(node, tuple(measures), sink)

    def answer_for(self, node: Node | None) -> None:
        """Passes for every answer that the chain up to `node` asks for."""
        for link in node.chain if node else ():
            for measure in link.stage.asks.values():
                self.ask(link.parent, measure)

    def ask(self, node: Node | None, measure: Measure) -> str:
        """The key of a measure's answer over a node's output; makes the pass that finds it, once."""
        name = (id(node), measure.name)
        if name in self.keys:
            return self.keys[name]
        asks = {n: self.ask(node, inner) for n, inner in measure.asks.items()}
        key = f"{self.prefix}/{self.called(node)}/{measure.name}"
        self.keys[name] = key
        asked = Asked(key, measure, asks)
        if measure.reads_array:
            self.emit(node, (asked,), None)
        else:
            array, through = self.walked(node)
            self.passes.append(Pass(key, None, (), (), (asked,), None, array, through))
        return key

    def walked(self, node: Node | None) -> tuple[str, tuple[Stage, ...]]:
        """The nearest array at or before a node, and what brings its grid to the node's."""
        links: list[Stage] = []
        while node is not None and id(node) not in self.arrays:
            links = [node.stage, *links] if node.stage.regrids else links
            node = node.parent
        return self.arrays[id(node)] if node is not None else self.source.array, tuple(links)

    def shrinks(self, link: Node) -> float:
        """How many voxels a node reads for each that it gives."""
        before = link.parent.spec if link.parent is not None else self.source_spec
        return prod(before.shape) / prod(link.spec.shape)

    def emit(self, node: Node | None, measures: tuple[Asked, ...], sink: Target | None) -> None:
        source, links = self.source, list(node.chain) if node else []
        # A result that is kept, in scratch or for good, or that is read further than its block, is there before anything is made of it.
        beyond = any(before or after for asked in measures for before, after in asked.measure.halo)
        for link in links:
            last = link is links[-1]
            apart = sink is None and bool(measures if link.keep else beyond) if last else True
            held = self.cut if last else self.cut | self.kept
            if apart and (link.keep or id(link) in held) and id(link) not in self.arrays:
                self.emit(link, (), None)
        for n, link in reversed(list(enumerate(links))):
            if id(link) in self.arrays:
                source, links = Ref(self.arrays[id(link)]), links[n + 1 :]
                break
        if sink is None and links and (links[-1].keep or id(links[-1]) in self.kept | self.cut):
            sink = Target(f"{self.prefix}.{self.called(links[-1])}", "kept" if links[-1].keep else "scratch")
            self.arrays[id(links[-1])] = sink.name
        if sink is not None:
            self.targets.append(sink)
        asks = tuple({n: self.keys[id(k.parent), m.name] for n, m in k.stage.asks.items()} for k in links)
        words = [*(k.stage.name for k in links), *(a.measure.name for a in measures)] or ["copy"]
        self.passes.append(
            Pass(
                f"{self.prefix}: {', '.join(words)}",
                source,
                tuple(k.stage for k in links),
                asks,
                measures,
                sink.name if sink else None,
                joins={n: link.beside for n, link in enumerate(links) if link.beside is not None},
                ahead=not links or self.shrinks(links[0]) <= SEVERAL,
            )
        )


def cuts(leaf: Node | None) -> set[int]:
    """Nodes whose output must lie in an array.

    A later one reads it beyond the block, though they can give no more than the block itself; or the next one is the first on a grid
    of its own, whose blocks are not theirs.
    """
    links = leaf.chain if leaf else ()
    return {
        id(node)
        for n, node in enumerate(links)
        if (node.stage.blockwise and any(_reaches(later.stage) for later in links[n + 1 :])) or _ends_a_grid(links, n)
    }


def _ends_a_grid(links: Sequence[Node], n: int) -> bool:
    return n + 1 < len(links) and links[n + 1].stage.regrids


def _last_of_grid(links: Sequence[Node], n: int) -> int:
    return next((k for k in range(n, len(links)) if _ends_a_grid(links, k)), len(links) - 1)


def _reaches(stage: Stage) -> bool:
    halos = [stage.halo, *(measure.halo for measure in stage.asks.values())]
    return stage.reads is not None or any(before or after for halo in halos for before, after in halo)


def array_asks(measures: Mapping[str, Measure]) -> int:
    """How many passes over the array these measures need, their own questions included."""
    seen: dict[str, Measure] = {}

    def walk(several: Mapping[str, Measure]) -> None:
        for m in several.values():
            seen.setdefault(m.name, m)
            walk(m.asks)

    walk(measures)
    return sum(m.reads_array for m in seen.values())


def staged(leaf: Node | None, source: Spec) -> tuple[set[int], list[Choice]]:
    """Which nodes of a chain scratch should hold, from the first to the last.

    A node's output is needed once for every pass that a later stage of its grid asks for, and once for the last pass. Computing it again
    costs the chain since the nearest scratch before it (or the input) and reading that; scratch is written once, by the pass of the
    first question about it or by one of its own, and read. What only a later scratch is made of is read once, and needs none. Prices are
    for each voxel of the image. The last node of a grid is staged whatever it costs.
    """
    kept: list[int] = []
    choices: list[Choice] = []
    links = leaf.chain if leaf else ()
    asked = [array_asks(link.stage.asks) for link in links]  # passes over what each link reads
    since, read, before, voxels = 0.0, np.dtype(source.dtype).itemsize * READ_NS_PER_BYTE, 1.0, prod(source.shape)
    for n, node in enumerate(links[:-1]):
        since += node.stage.cost.ns_per_voxel * before
        before = prod(node.spec.shape) / voxels
        uses = 1 + sum(asked[n + 1 : _last_of_grid(links, n + 1) + 1])
        again = (since + read) * (uses - 1)
        size = np.dtype(node.spec.dtype).itemsize * before
        reads = uses - 1 if asked[n + 1] else uses
        scratch = size * (WRITE_NS_PER_BYTE + READ_NS_PER_BYTE * reads)
        keep = _ends_a_grid(links, n) or (uses > 1 and again > GAIN * scratch)
        choices.append(Choice(node.name, uses, keep, again, scratch))
        if keep:
            kept.append(n)
            since, read = 0.0, size * READ_NS_PER_BYTE
    for n, later in pairwise(list(kept)):
        if not any(asked[n + 1 : later + 1]) and not _ends_a_grid(links, n):
            kept.remove(n)
            choices[n] = replace(choices[n], uses=1, staged=False, again_ns=0.0)
    return {id(links[n]) for n in kept}, choices


def refuse_float_mask(name: str, spec: Spec) -> None:
    """Labels are made from masks; a float image is an image."""
    if np.dtype(spec.dtype).kind == "f":
        raise InvalidConfiguration(f"step {name} needs a mask or labels, but gets {spec.dtype}; threshold it first")
