"""Compile: steps become passes in the order in which they must run; what is dear is staged, what is cheap is computed again."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import product

import numpy as np
import pytest

from cristae.blocks.stage import Cost, Spec, Stage, local
from cristae.blocks.work import Asked, Pass, Ref, Target
from cristae.errors import InvalidConfiguration
from cristae.filters import gaussian, ridge, threshold
from cristae.labels import label
from cristae.morphology.moments import shape
from cristae.pipeline.compile import GAIN, Choice, Node, Passes, refuse_float_mask, staged
from cristae.pipeline.file import load
from cristae.pipeline.objects import ObjectPasses, object_passes
from cristae.pipeline.operations import BY_THE_ENGINE, build, known, parameters, stages
from cristae.store.create import create_volume, publish
from cristae.store.volume import Volume

SPEC = Spec((20, 64, 64), "uint16", (0.3, 0.1, 0.1))
RIDGE = {"radius_um": [0.15, 0.3]}


def chain_of(*several: Stage, names: Sequence[str] = ()) -> Node:
    node: Node | None = None
    for n, stage in enumerate(several):
        before = node.spec if node else SPEC
        node = Node(names[n] if names else stage.name, stage, node, stage.output(before))
    assert node is not None
    return node


def main_chain(**ridge_params: object) -> Node:
    return chain_of(
        ridge(**RIDGE, **ridge_params, voxel_um=SPEC.voxel_um),  # type: ignore[arg-type]
        threshold(method="otsu", voxel_um=SPEC.voxel_um),
        label(voxel_um=SPEC.voxel_um),
    )


def compiled(leaf: Node, table: bool = True) -> Passes:
    kept, _ = staged(leaf, SPEC)
    passes = Passes(Ref("input", 0), SPEC, "mito", kept)
    measures = (Asked("mito/table/shape", shape(voxel_um=SPEC.voxel_um)),) if table else ()
    passes.end(leaf, Target("mito", "label"), measures)
    return passes


def chains(passes: Passes) -> list[tuple[str, list[str], list[str], str | None]]:
    """What each pass reads, computes, finds and writes."""
    return [
        (p.source.array if p.source else "", [s.name for s in p.chain], [a.measure.name for a in p.measures], p.sink)
        for p in passes.passes
    ]


def costing(ns: float, asks: Stage | None = None, dtype: str = "float32", name: str = "work") -> Stage:
    return local(
        name,
        np.sqrt,
        {},
        0,
        3,
        cost=Cost(0.0, ns),
        output=lambda s: Spec(s.shape, dtype, s.voxel_um),
        asks=asks.asks if asks else {},
    )


# ------------------------------------------------------------------------------------------------------ the passes


def test_the_main_job_becomes_these_passes() -> None:
    assert chains(compiled(main_chain())) == [
        ("input", [], ["ridge_norm"], None),
        ("input", ["ridge"], ["extrema"], "mito.ridge"),
        ("mito.ridge", [], ["otsu"], None),
        ("mito.ridge", ["threshold"], ["label_faces"], None),
        ("", [], ["label_ids"], None),
        ("mito.ridge", ["threshold", "label"], ["shape"], "mito"),
    ]


def test_a_number_for_gamma_saves_a_pass() -> None:
    with_number, without = compiled(main_chain(gamma=20.0)), compiled(main_chain())
    assert chains(with_number) == chains(without)[1:]


def test_labels_of_an_integer_image_need_no_scratch() -> None:
    leaf = chain_of(threshold(value=100, voxel_um=SPEC.voxel_um, dtype="uint16"), label(voxel_um=SPEC.voxel_um))
    assert chains(compiled(leaf)) == [
        ("input", ["threshold"], ["label_faces"], None),
        ("", [], ["label_ids"], None),
        ("input", ["threshold", "label"], ["shape"], "mito"),
    ]


def test_what_is_dear_is_there_before_a_later_stage_is_asked_about() -> None:
    """The question is about what threshold makes, not about the network before it, which must not run twice for that."""
    leaf = chain_of(
        costing(1000.0, name="network"), threshold(value=0.5, voxel_um=SPEC.voxel_um), label(voxel_um=SPEC.voxel_um)
    )
    assert chains(compiled(leaf)) == [
        ("input", ["network"], [], "mito.network"),
        ("mito.network", ["threshold"], ["label_faces"], None),
        ("", [], ["label_ids"], None),
        ("mito.network", ["threshold", "label"], ["shape"], "mito"),
    ]


def test_of_two_dear_stages_in_a_row_the_later_is_staged() -> None:
    leaf = chain_of(costing(1000.0, name="first"), costing(1000.0, name="then"), label(voxel_um=SPEC.voxel_um))
    assert chains(compiled(leaf)) == [
        ("input", ["first", "then"], ["label_faces"], "mito.then"),
        ("", [], ["label_ids"], None),
        ("mito.then", ["label"], ["shape"], "mito"),
    ]
    assert [(c.node, c.uses, c.staged) for c in staged(leaf, SPEC)[1]] == [("first", 1, False), ("then", 2, True)]


def test_no_plan_promises_a_scratch_that_no_pass_writes() -> None:
    question = label(voxel_um=SPEC.voxel_um)
    cut = threshold(value=0.5, voxel_um=SPEC.voxel_um)
    otsu = threshold(method="otsu", voxel_um=SPEC.voxel_um)
    for prices in product((0.0, 30.0, 1000.0), repeat=3):
        some = [costing(ns, name=f"work{n}") for n, ns in enumerate(prices)]
        for leaf in (chain_of(*some, cut, question), chain_of(some[0], otsu, some[1], otsu, some[2], cut, question)):
            _, choices = staged(leaf, SPEC)
            written = [t.name for t in compiled(leaf).targets if t.kind == "scratch"]
            assert len(written) == sum(c.staged for c in choices), (prices, choices)


def test_a_chain_without_questions_is_one_pass() -> None:
    leaf = chain_of(gaussian(0.1, voxel_um=SPEC.voxel_um), threshold(value=5.0, voxel_um=SPEC.voxel_um))
    assert chains(compiled(leaf, table=False)) == [("input", ["gaussian", "threshold"], [], "mito")]


def test_every_answer_is_there_before_it_is_wanted_and_found_once() -> None:
    for leaf in (main_chain(), main_chain(gamma=3.0)):
        answered: list[str] = []
        for step in compiled(leaf).passes:
            assert step.wants <= set(answered)
            answered += [a.key for a in step.measures]
        assert len(set(answered)) == len(answered)


def test_every_question_of_a_stage_has_a_key_in_its_pass() -> None:
    for step in compiled(main_chain()).passes:
        assert len(step.asks) == len(step.chain)
        for stage, asks in zip(step.chain, step.asks, strict=True):
            assert set(asks) == set(stage.asks)
        for asked in step.measures:
            assert set(asked.asks) == set(asked.measure.asks)


def test_every_array_is_written_before_it_is_read_and_by_one_pass() -> None:
    passes = compiled(main_chain())
    written: list[str] = ["input"]
    for step in passes.passes:
        assert step.source is None or step.source.array in written
        assert step.grid_of is None or step.grid_of in written
        written += [step.sink] if step.sink else []
    assert len(set(written)) == len(written)
    assert sorted(t.name for t in passes.targets) == sorted(w for w in written if w != "input")
    assert {t.name: t.kind for t in passes.targets} == {"mito.ridge": "scratch", "mito": "label"}


def test_the_same_step_twice_has_answers_and_arrays_of_its_own() -> None:
    """Two ridges, each behind a gaussian: the second must not be given the first one's gamma."""
    soft = gaussian(0.1, voxel_um=SPEC.voxel_um)
    again = ridge(**RIDGE, voxel_um=SPEC.voxel_um)  # type: ignore[arg-type]
    passes = compiled(chain_of(soft, again, gaussian(0.3, voxel_um=SPEC.voxel_um), again), table=False)
    keys = [a.key for p in passes.passes for a in p.measures]
    assert len(set(keys)) == len(keys) == 2
    sinks = [p.sink for p in passes.passes if p.sink]
    assert len(set(sinks)) == len(sinks)
    assert len({t.name for t in passes.targets}) == len(passes.targets)
    last = passes.passes[-1]
    wanted = [key for asks in last.asks for key in asks.values()]
    assert len(set(wanted)) == len(wanted)


# ------------------------------------------------------------------------------------------------- the choices


def choice(leaf: Node, node: str) -> Choice:
    return next(c for c in staged(leaf, SPEC)[1] if c.node == node)


def test_the_ridge_is_staged_and_the_mask_is_computed_again() -> None:
    leaf = main_chain()
    kept, choices = staged(leaf, SPEC)
    assert [c.node for c in choices] == ["ridge", "threshold"]
    assert [c.staged for c in choices] == [True, False]
    assert kept == {id(leaf.chain[0])}


def test_uses_count_every_pass_that_reads_a_node() -> None:
    assert choice(main_chain(), "ridge").uses == 4  # extrema, otsu, label_faces, and the last pass
    assert choice(main_chain(), "threshold").uses == 2  # label_faces, and the last pass


def test_a_node_is_staged_where_computing_it_again_costs_more_than_writing_and_reading_it() -> None:
    asking = label(voxel_um=SPEC.voxel_um)
    turned = [staged(chain_of(costing(ns), asking), SPEC)[1][0] for ns in np.linspace(0.0, 200.0, 41)]
    assert [c.staged for c in turned] == sorted(c.staged for c in turned)
    assert {c.staged for c in turned} == {False, True}
    for c in turned:
        assert c.staged == (c.again_ns > GAIN * c.scratch_ns)


def test_smaller_voxels_are_staged_earlier() -> None:
    asking = label(voxel_um=SPEC.voxel_um)

    def least(dtype: str) -> float:
        return next(ns for ns in range(500) if staged(chain_of(costing(ns, dtype=dtype), asking), SPEC)[1][0].staged)

    assert least("bool") < least("float32") < least("float64")


def test_what_is_behind_a_scratch_need_not_be_computed_again() -> None:
    """A dear stage is staged; a cheap one after it is then cheap to compute again, for the dear one is not."""
    leaf = chain_of(
        costing(300.0), costing(1.0, name="cheap"), label(voxel_um=SPEC.voxel_um), names=["dear", "cheap", "label"]
    )
    assert {c.node: c.staged for c in staged(leaf, SPEC)[1]} == {"dear": True, "cheap": False}


def test_nothing_is_staged_that_is_read_once() -> None:
    leaf = chain_of(costing(1000.0), costing(1000.0), costing(1000.0))
    kept, choices = staged(leaf, SPEC)
    assert not kept
    assert [c.uses for c in choices] == [1, 1]
    assert staged(None, SPEC) == (set(), [])


# ---------------------------------------------------------------------------------- from a file to passes, by name


@pytest.fixture(scope="module")
def volume(tmp_path_factory: pytest.TempPathFactory) -> Volume:
    made = create_volume(
        tmp_path_factory.mktemp("v") / "cell.ome.zarr",
        axes="czyx",
        shape=(2, *SPEC.shape),
        dtype="uint16",
        voxel_um=SPEC.voxel_um,
        chunk=(20, 64, 64),
        shard=(20, 64, 64),
    )
    publish(made)
    return made


def objects(volume: Volume, text: str) -> ObjectPasses:
    (item,) = load(f"output: {{name: mito}}\nchannel: 1\nsteps:\n{text}\n", known()).objects
    return object_passes(item, volume, None)


def names(passes: Sequence[Pass]) -> list[list[str]]:
    return [[s.name for s in p.chain] for p in passes]


def test_a_file_becomes_passes_over_its_channel(volume: Volume) -> None:
    built = objects(
        volume,
        "  - ridge: {radius_um: [0.1, 0.2, 0.3], gamma: 20}\n  - threshold: {method: otsu}\n  - label\n  - measure: [shape]",
    )
    assert {p.source.channel for p in built.passes if p.source and p.source.array == "input"} == {1}
    assert names(built.passes) == [["ridge"], [], ["threshold"], [], ["threshold", "label"]]
    assert built.table is not None


def test_from_and_as_lead_to_other_steps(volume: Volume) -> None:
    text = """
  - gaussian: {sigma_um: 0.1}
    as: soft
  - threshold: {value: 5}
    as: unused
  - threshold: {value: 9}
    from: soft
  - label: {}
    as: things
  - measure: [shape]
    from: things
"""
    built = objects(volume, text)
    assert names(built.passes)[-1] == ["gaussian", "threshold", "label"]
    assert built.passes[-1].chain[1].params == {"value": 9}
    assert built.table is not None


def test_from_input_begins_anew(volume: Volume) -> None:
    built = objects(
        volume,
        "  - gaussian: {sigma_um: 0.1}\n  - threshold: {value: 5}\n    from: input\n  - label\n  - measure: [shape]",
    )
    assert names(built.passes)[-1] == ["threshold", "label"]


@pytest.mark.parametrize(
    ("steps", "sentence"),
    [
        (
            "  - gaussian: {sigma_um: 0.1}\n  - label",
            "label needs a mask or labels, but gets float32; threshold it first",
        ),
        ("  - measure: [shape]", "measure works on labels; put it after label"),
        ("  - threshold: {value: 3}\n  - measure: [shape]", "measure works on labels; put it after label"),
        ("  - gaussian: {}", "step gaussian needs sigma_um"),
        ("  - gaussian: {sigma_um: -1}", "sigma_um is -1"),
        ("  - skeleton: {by: median}", "step skeleton is part of the format but not built yet"),
    ],
)
def test_steps_that_cannot_be_are_refused_in_words(volume: Volume, steps: str, sentence: str) -> None:
    with pytest.raises(InvalidConfiguration, match=sentence):
        objects(volume, steps)


def test_a_mask_may_be_labelled_and_a_float_image_not() -> None:
    for dtype in ("bool", "uint8", "int64"):
        refuse_float_mask("label", Spec((2, 2), dtype, (1.0, 1.0)))
    for dtype in ("float16", "float64"):
        with pytest.raises(InvalidConfiguration, match="threshold it first"):
            refuse_float_mask("label", Spec((2, 2), dtype, (1.0, 1.0)))


# -------------------------------------------------------------------------------------------------- the operations


def test_the_operations_are_sorted_and_build_with_what_the_engine_knows() -> None:
    assert list(stages()) == sorted(stages())
    for name in stages():
        assert not set(parameters(name)) & BY_THE_ENGINE
        assert known()[name] is not None
    assert build("gaussian", {"sigma_um": 0.2}, SPEC).halo == gaussian(0.2, voxel_um=SPEC.voxel_um).halo
    assert build("threshold", {"method": "otsu"}, SPEC).asks["threshold"].asks == {}
    assert build("threshold", {"method": "otsu"}, Spec((4, 4), "float32", (1.0, 1.0))).asks["threshold"].asks


@pytest.mark.parametrize(
    ("name", "params", "sentence"),
    [
        ("gaussian", {}, "step gaussian needs sigma_um"),
        ("ridge", {"radius_um": 0.2, "width": 1}, "step ridge: .*width"),
        ("label", {"connectivity": 7}, "connectivity 7 is not possible in 3D"),
        ("threshold", {}, "either a value or a method"),
    ],
)
def test_a_parameter_that_is_wrong_is_named(name: str, params: dict[str, object], sentence: str) -> None:
    with pytest.raises(InvalidConfiguration, match=sentence):
        build(name, params, SPEC)
