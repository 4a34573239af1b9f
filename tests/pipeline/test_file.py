"""A pipeline file is read as it is meant, and each mistake is one sentence with its line and the nearest right word."""

from __future__ import annotations

import pickle
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cristae.errors import CristaeError, InvalidConfiguration, UsageError
from cristae.pipeline.document import read
from cristae.pipeline.file import Object, PipelineFile, Step, canonical, dump, load
from cristae.pipeline.settings import apply_settings

KNOWN = {
    "gaussian": ("sigma_um",),
    "difference_of_gaussians": ("small_um", "large_um"),
    "ridge": ("method", "radius_um", "gamma"),
    "threshold": ("method", "over", "value"),
    "label": ("connectivity", "min_voxels", "min_volume_um3"),
    "measure": ("columns", "channels"),
    "top_hat": None,
}

PLAN = """\
objects:
  mito:
    channel: TMRM                     # a name, or an index from 0
    within: cell
    steps:
      - top_hat: {radius_um: 1.0}
      - ridge: {method: frangi, radius_um: {min: 0.15, max: 0.40, scales: 5}}
      - threshold: {method: otsu, over: frame}
      - label: {min_volume_um3: 0.02}
      - measure: {columns: [shape, surface, intensity], channels: all}
  cell:
    channel: 1
    steps:
      - gaussian: {sigma_um: 1}
        as: smooth
      - threshold: {value: 0.1}
        from: smooth
      - label
      - measure: [shape, surface]
"""

SHORT = """\
channel: 0
input: cell.ome.zarr
output: {name: mito}
steps:
  - ridge: {radius_um: {min: 0.15, max: 0.40}}
  - threshold: {method: otsu}
  - label:
"""


def one(steps: str, top: str = "output: {name: mito}") -> str:
    return f"{top}\nsteps:\n{steps}\n"


# ------------------------------------------------------------------------------------------- what is meant


def test_the_plan_of_the_house_is_read_as_it_stands() -> None:
    mito, cell = load(PLAN, KNOWN).objects
    assert (mito.name, mito.channel, mito.within) == ("mito", "TMRM", "cell")
    assert [s.name for s in mito.steps] == ["top_hat", "ridge", "threshold", "label", "measure"]
    assert mito.steps[1].params == {"method": "frangi", "radius_um": {"min": 0.15, "max": 0.40, "scales": 5}}
    assert (mito.steps[1].place or "").endswith(", line 7")
    assert (cell.channel, cell.within) == (1, None)
    assert cell.steps == (
        Step("gaussian", {"sigma_um": 1}, label="smooth"),
        Step("threshold", {"value": 0.1}, source="smooth"),
        Step("label"),
        Step("measure", {"columns": ["shape", "surface"]}),
    )


def test_one_object_needs_no_objects() -> None:
    pipeline = load(SHORT, KNOWN)
    steps = (
        Step("ridge", {"radius_um": {"min": 0.15, "max": 0.40}}),
        Step("threshold", {"method": "otsu"}),
        Step("label"),
    )
    assert pipeline == PipelineFile((Object("mito", 0, steps),), ("cell.ome.zarr",))


def test_words_of_a_step_may_stand_beside_or_inside_it() -> None:
    beside = load(one("- gaussian: {sigma_um: 1}\n  as: a\n- threshold: {value: 1}\n  from: a\n  keep: true"), KNOWN)
    inside = load(one("- gaussian: {sigma_um: 1, as: a}\n- threshold: {value: 1, from: a, keep: true}"), KNOWN)
    assert beside == inside
    assert beside.objects[0].steps[1].keep


def test_what_is_relative_is_relative_to_the_file(tmp_path: Path) -> None:
    file = tmp_path / "mito.yaml"
    file.write_text(
        "input: [a/cell.tif, s3://bucket/b.zarr, /abs/c.zarr]\n"
        "steps:\n- python: {file: mine.py, function: f, halo_um: 0.5}\n"
    )
    pipeline = load(file, KNOWN)
    assert pipeline.path == str(file)
    assert pipeline.inputs == (str(tmp_path / "a/cell.tif"), "s3://bucket/b.zarr", "/abs/c.zarr")
    assert pipeline.objects[0].steps[0].params["file"] == str(tmp_path / "mine.py")
    assert pipeline.objects[0].name == "mito"
    assert load(str(file), KNOWN) == pipeline


def test_anchors_and_merges_mean_what_yaml_says() -> None:
    text = one("- gaussian: &g {sigma_um: 1}\n  as: a\n- gaussian:\n    <<: *g\n  as: b")
    assert [s.params for s in load(text, KNOWN).objects[0].steps] == [{"sigma_um": 1}] * 2


def test_a_pipeline_travels() -> None:
    pipeline = load(PLAN, KNOWN)
    assert pickle.loads(pickle.dumps(pipeline)) == pipeline


# ----------------------------------------------------------------------------------------------- mistakes

MISTAKES = {  # text: line, words that the sentence must have
    "unknown key at the top": (SHORT.replace("steps:", "stpes:"), 4, "stpes", "did you mean steps?"),
    "objects misspelt": (PLAN.replace("objects:", "object:"), 1, "object", "did you mean objects?"),
    "unknown key of an object": (
        PLAN.replace("channel: 1", "chanel: 1"),
        12,
        "object cell has no key chanel",
        "channel?",
    ),
    "unknown key of output": (SHORT.replace("name:", "nmae:"), 3, "output has no key nmae", "did you mean name?"),
    "unknown step": (PLAN.replace("- ridge", "- rigde"), 7, "no step rigde", "did you mean ridge?"),
    "unknown step as a word": (one("- lable"), 3, "no step lable", "did you mean label?"),
    "nothing like it": (one("- xyzzy"), 3, "no step xyzzy", "the steps are difference_of_gaussians, gaussian"),
    "upper case": (one("- Ridge"), 3, "did you mean ridge?"),
    "unknown parameter": (
        PLAN.replace("method: otsu", "methd: otsu"),
        8,
        "threshold has no parameter methd",
        "method?",
    ),
    "on its own line": (
        one("- ridge:\n    gamma: 1\n    radius: 1"),
        5,
        "no parameter radius",
        "did you mean radius_um?",
    ),
    "two names": (one("- gaussian: {sigma_um: 1}\n  label:"), 3, "gaussian and label stand in one step"),
    "no name": (one("- as: a"), 3, "no name"),
    "empty step": (one("- {}"), 3, "no name"),
    "a number for a step": (one("- 3"), 3, "not 3"),
    "a number for parameters": (one("- gaussian: 2.0"), 3, "by name", "not 2.0"),
    "a list for parameters": (one("- gaussian: [2.0]"), 3, "by name"),
    "no steps": ("output: {name: mito}\nchannel: 0\n", None, "needs steps", "objects"),
    "no steps of an object": ("objects:\n  mito:\n    channel: 0\n", 2, "object mito needs steps"),
    "empty steps": ("output: {name: m}\nsteps: []\n", 2, "steps should be", "at least one"),
    "steps is a mapping": ("output: {name: m}\nsteps: {label: }\n", 2, "steps should be a list"),
    "no objects": ("objects:\n", 1, "objects should be a mapping"),
    "objects is a list": ("objects:\n  - mito\n", 1, "objects should be a mapping", "['mito']"),
    "object is a word": ("objects:\n  steps: label\n", 2, "object steps is a mapping"),
    "duplicate as": (one("- gaussian: {as: a}\n- gaussian: {as: a}"), 4, "as: a", "already"),
    "as input": (one("- gaussian: {as: input}"), 3, "as: input"),
    "as a number": (one("- gaussian:\n  as: 3"), 4, "as should be a word", "not 3"),
    "as twice in a step": (one("- gaussian: {as: a}\n  as: b"), 4, "beside and inside"),
    "keep is a word": (one("- gaussian: {keep: yes}"), 3, "keep should be true or false", "'yes'"),
    "from nothing": (one("- gaussian: {as: smooth}\n- label: {from: smoth}"), 4, "smoth", "did you mean smooth?"),
    "from a later step": (one("- label: {from: b}\n- gaussian: {as: b}"), 3, "later"),
    "from a step's name": (one("- gaussian\n- label: {from: gaussian}"), 4, "as: gaussian"),
    "channel is a list": (PLAN.replace("channel: 1", "channel: [1]"), 12, "channel should be", "index", "[1]"),
    "channel is true": (PLAN.replace("channel: 1", "channel: true"), 12, "channel should be", "True"),
    "channel below 0": (PLAN.replace("channel: 1", "channel: -1"), 12, "channel should be", "-1"),
    "within nothing": (PLAN.replace("within: cell", "within: cel"), 4, "within cel", "did you mean cell?"),
    "within itself": (PLAN.replace("within: cell", "within: mito"), 4, "mito within mito"),
    "within a circle": (PLAN.replace("channel: 1", "within: mito"), 4, "mito within cell within mito"),
    "both forms": (PLAN + "steps: [label]\n", 20, "beside objects"),
    "output beside objects": (PLAN + "output: {name: x}\n", 20, "beside objects"),
    "no name for the object": ("steps: [label]\n", None, "output: {name: NAME}"),
    "a path for a name": (SHORT.replace("mito", "../mito"), 3, "'../mito' cannot name"),
    "a hidden name": ("objects:\n  .mito:\n    steps: [label]\n", 2, "'.mito' cannot name"),
    "output is a word": ("output: mito\nsteps: [label]\n", 1, "output should be", "{name: mito}"),
    "input is a number": (SHORT.replace("cell.ome.zarr", "3"), 2, "input should be a path", "3"),
    "input in a list": (SHORT.replace("cell.ome.zarr", "[a, 3]"), 2, "input should be a path"),
    "key twice": (SHORT + "channel: 1\n", 8, "channel stands twice"),
    "no YAML": ("steps: [label\n", 2, "not YAML"),
    "tabs": ("steps:\n\t- label\n", 2, "not YAML"),
    "two documents": ("steps: [label]\n---\nsteps: [label]\n", 2, "not YAML"),
    "control character": ("steps: [label\x00]\n", None, "not YAML"),
    "empty": ("\n", None, "is empty"),
    "a list": ("- label\n", None, "holds ['label']"),
    "key is a number": ("output: {name: m}\nsteps:\n- gaussian: {1: 2}\n", 3, "keys are words"),
    "a date": (one("- gaussian:\n    sigma_um: 2026-01-01"), 4, "not 2026-01-01"),
    "not a number": (one("- gaussian:\n    sigma_um: .nan"), 4, "finite"),
    "a tag": (one("- gaussian:\n    sigma_um: !x 3"), 4, "a value is"),
    "too deep": (one("- gaussian: {sigma_um: " + "[" * 25 + "]" * 25 + "}"), 3, "levels"),
    "inside itself": ("objects: &a {mito: *a}\n", 1, "object mito is a mapping"),
    "python without halo": (one("- python: {file: mine.py, function: f}"), 3, "python needs halo_um", "um"),
    "python misspelt": (one("- python: {file: m.py, function: f, halo: 1}"), 3, "no key halo", "did you mean halo_um?"),
    "python halo below 0": (one("- python: {file: m.py, function: f, halo_um: -1}"), 3, "halo_um should be", "-1"),
    "python no function": (one("- python: {file: m.py, function: a-b, halo_um: 1}"), 3, "function should be", "a-b"),
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_each_mistake_is_one_sentence(mistake: str, tmp_path: Path) -> None:
    text, line, *words = MISTAKES[mistake]
    with pytest.raises(InvalidConfiguration) as raised:
        load(text, KNOWN)
    said = str(raised.value)
    assert all(word in said for word in words), said
    assert said.startswith(f"the pipeline, line {line}: " if line else "the pipeline"), said
    assert "\n" not in said
    assert len(said) < 300

    file = tmp_path / "a mito.yaml"  # a name that cannot name an object, so that the same mistakes are found
    file.write_text(text)
    with pytest.raises(InvalidConfiguration) as raised:
        load(file, KNOWN)
    assert str(raised.value).replace(str(file), "the pipeline") == said


def test_files_that_are_none_are_refused_by_name(tmp_path: Path) -> None:
    (tmp_path / "latin.yaml").write_bytes("steps: [µ]".encode("latin-1"))
    (tmp_path / "large.yaml").write_bytes(b"# " + bytes(1 << 21))
    for name, words in {
        "absent.yaml": "there is no pipeline file",
        "": "is a folder",
        "latin.yaml": "not UTF-8",
        "large.yaml": "too many",
    }.items():
        with pytest.raises(InvalidConfiguration, match=words) as raised:
            load(tmp_path / name, KNOWN)
        assert str(tmp_path / name) in str(raised.value)


# ------------------------------------------------------------------------------------------------- --set


def set_(text: str, *settings: str) -> PipelineFile:
    return load(text, KNOWN, settings)


def params(pipeline: PipelineFile, step: str, number: int = 0) -> Any:
    return next(s for s in pipeline.objects[number].steps if s.name == step).params


def test_a_setting_changes_one_value() -> None:
    assert set_(SHORT, "output.name=er").objects[0].name == "er"
    assert set_("steps: [label]\n", "output.name=er").objects[0].name == "er"
    assert set_(SHORT, "channel=TMRM").objects[0].channel == "TMRM"
    assert set_(SHORT, "channel='1'").objects[0].channel == "1"
    assert set_(SHORT, "input=[a, b]").inputs == ("a", "b")
    assert params(set_(SHORT, "ridge.radius_um.max=0.5"), "ridge") == {"radius_um": {"min": 0.15, "max": 0.5}}
    assert params(set_(SHORT, "ridge.radius_um.scales=3"), "ridge")["radius_um"]["scales"] == 3
    assert params(set_(SHORT, "ridge.radius_um=[0.2, 0.3]"), "ridge") == {"radius_um": [0.2, 0.3]}
    assert params(set_(SHORT, "label.min_voxels=7", "label.min_voxels=8"), "label") == {"min_voxels": 8}
    assert params(set_(SHORT, "mito.threshold.value=1e-3"), "threshold") == {"method": "otsu", "value": 0.001}


def test_a_step_is_set_in_every_object_or_in_one() -> None:
    both = set_(PLAN, "label.min_voxels=7")
    assert [params(both, "label", n)["min_voxels"] for n in (0, 1)] == [7, 7]
    single = set_(PLAN, "cell.label.min_voxels=7", "objects.mito.channel=2", "mito.within=cell")
    assert "min_voxels" not in params(single, "label", 0)
    assert params(single, "label", 1) == {"min_voxels": 7}
    assert single.objects[0].channel == 2
    assert params(set_(PLAN, "smooth.sigma_um=3"), "gaussian", 1) == {"sigma_um": 3}
    assert params(set_(PLAN, "cell.measure.columns.1=topology"), "measure", 1) == {"columns": ["shape", "topology"]}


def test_settings_leave_the_document_as_it_was() -> None:
    document = read(PLAN)
    apply_settings(document, ["ridge.radius_um.max=9", "mito.channel=3"])
    assert document == read(PLAN)


TWICE = one("- gaussian: {as: a}\n- gaussian: {from: a}")


@pytest.mark.parametrize(
    ("text", "setting", "words"),
    [
        (SHORT, "ridge", "not PATH=VALUE"),
        (SHORT, "=3", "not PATH=VALUE"),
        (SHORT, "ridge..max=3", "not PATH=VALUE"),
        (SHORT, "outptu.name=x", "did you mean output.name?"),
        (SHORT, "output.nmae=x", "did you mean output.name?"),
        (SHORT, "rigde.gamma=1", "did you mean ridge?"),
        (SHORT, "ridge=1", "ridge.PARAMETER=VALUE"),
        (SHORT, "ridge.radius_um.maxx=1", "no maxx in radius_um; did you mean max?"),
        (SHORT, "ridge.radis_um.max=1", "no radis_um in this step; did you mean radius_um?"),
        (SHORT, "threshold.method.a=1", "method is 'otsu', which has no a"),
        (SHORT, "channel.a=1", "channel is 0"),
        (SHORT, "channel=[", "quote it"),
        (PLAN, "measure.columns.9=x", "a list of"),
        (PLAN, "channel=1", "did you mean"),
        (PLAN, "output.name=x", "nothing here is called output.name"),
        (PLAN, "cel.channel=1", "did you mean cell?"),
        (PLAN, "cell.chanel=1", "did you mean channel?"),
        (PLAN, "cell.ridge.gamma=1", "nothing here is called ridge"),
        (PLAN, "objects=1", "nothing here is called"),
        (TWICE, "gaussian.sigma_um=1", "any of 2 steps called gaussian in mito"),
    ],
)
def test_a_setting_that_leads_nowhere_says_what_is_near(text: str, setting: str, words: str) -> None:
    with pytest.raises(UsageError) as raised:
        set_(text, setting)
    said = str(raised.value)
    assert words in said, said
    assert said.startswith(f"--set {setting}")
    assert "\n" not in said


@pytest.mark.parametrize(
    ("setting", "words"),
    [
        ("ridge.radis_um=3", "ridge has no parameter radis_um; did you mean radius_um?"),
        ("channel=true", "channel should be"),
        ("output.name=a/b", "cannot name"),
        ("output.name=", "name should be a word"),
        ("label.from=nobody", "no earlier step is called nobody"),
    ],
)
def test_a_value_that_is_wrong_names_the_setting(setting: str, words: str) -> None:
    with pytest.raises(InvalidConfiguration) as raised:
        set_(SHORT, setting)
    assert str(raised.value).startswith(f"--set {setting}: ")
    assert words in str(raised.value)


# ------------------------------------------------------------------------------------- the key, and laws


def test_the_key_sees_what_decides_and_nothing_else(tmp_path: Path) -> None:
    key = canonical(load(PLAN, KNOWN))
    assert canonical(load(PLAN.replace("smooth", "blurred").replace("value: 0.1", "value: 0.10"), KNOWN)) == key
    assert repr(canonical(load(PLAN.replace("sigma_um: 1}", "sigma_um: 1.0}"), KNOWN))) == repr(key)
    assert canonical(load("# a remark\n" + PLAN, KNOWN)) == key
    assert canonical(load("input: x.zarr\n" + PLAN, KNOWN)) == key
    assert canonical(load(PLAN.replace("        from: smooth\n", ""), KNOWN)) == key
    for other in ("value: 0.2", "value: 0.1, over: image"):
        assert canonical(load(PLAN.replace("value: 0.1", other), KNOWN)) != key
    assert canonical(load(PLAN.replace("from: smooth", "from: input"), KNOWN)) != key
    assert canonical(load(PLAN.replace("channel: 1", "channel: '1'"), KNOWN)) != key
    text = one("- python: {file: mine.py, function: f, halo_um: 0.5}")
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "mito.yaml").write_text(text)
    one_place, other_place = (canonical(load(tmp_path / name / "mito.yaml", KNOWN)) for name in ("a", "b"))
    assert one_place == other_place


NAMES = st.from_regex(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,8}", fullmatch=True)
WORDS = st.text(st.characters(codec="utf-8", exclude_categories=("C", "Z")), min_size=1, max_size=8)
SCALARS = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | WORDS
VALUES = st.recursive(
    SCALARS, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(WORDS, inner, max_size=3), max_leaves=6
)


@st.composite
def objects(draw: st.DrawFn, name: str, within: str | None) -> Object:
    steps: list[Step] = []
    for _ in range(draw(st.integers(1, 4))):
        step = draw(st.sampled_from(sorted(KNOWN)))
        right = KNOWN[step]
        given_ = draw(st.dictionaries(st.sampled_from(right) if right else NAMES, VALUES, max_size=3))
        labels = [s.label for s in steps if s.label]
        source = draw(st.none() | st.sampled_from([*labels, "input"]))
        label = draw(st.none() | NAMES.filter(lambda n, taken=(*labels, "input"): n not in taken))
        given_ = {k: v for k, v in given_.items() if k not in ("from", "as", "keep")}
        steps.append(Step(step, given_, source=source, label=label, keep=draw(st.booleans())))
    return Object(name, draw(st.none() | st.integers(0, 9) | WORDS), tuple(steps), within)


@st.composite
def pipelines(draw: st.DrawFn) -> PipelineFile:
    names = draw(st.lists(NAMES, min_size=1, max_size=3, unique=True))
    holders = [None, *(draw(st.sampled_from([None, *names[:n]])) for n in range(1, len(names)))]
    inputs = draw(st.lists(WORDS, max_size=2))
    return PipelineFile(tuple(draw(objects(n, h)) for n, h in zip(names, holders, strict=True)), tuple(inputs))


@given(pipelines())
def test_what_is_dumped_is_loaded(pipeline: PipelineFile) -> None:
    assert load(dump(pipeline), KNOWN) == pipeline
    assert canonical(load(dump(pipeline), KNOWN)) == canonical(pipeline)


@given(st.text(st.sampled_from("objectsinputlabelmito:-{}[],&*<!%|>#'\" \n\t01."), max_size=60) | st.text(max_size=40))
def test_no_text_is_anything_but_a_pipeline_or_a_sentence(text: str) -> None:
    with suppress(CristaeError):
        load(text + "\n", KNOWN)


@given(st.sampled_from(["ridge", "mito", "output", "input", "objects", "steps"]), st.lists(WORDS, max_size=3), VALUES)
def test_no_setting_is_anything_but_a_change_or_a_sentence(first: str, rest: list[str], value: Any) -> None:
    for text in (SHORT, PLAN, "objects: 3\n", "steps: 3\n", "output: 3\n"):
        with suppress(CristaeError):
            set_(text, ".".join([first, *rest]) + f"={value}")
