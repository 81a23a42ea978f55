"""Laws of the contract: closed, frozen, the same in JSON and in Python; one state machine; one tree of errors."""

import importlib
import json
import pkgutil
from typing import Any, get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel, TypeAdapter, ValidationError

import clew_spec
from clew_spec.base import Spec
from clew_spec.errors import KINDS, ClewError, Problem, from_problem
from clew_spec.jobs import MOVES, POOL_OF, TERMINAL, JobKind, JobRequest, JobSpec, JobState, Pool
from clew_spec.runner import Event, Message
from clew_spec.training import TrainSpec

MODULES = [importlib.import_module(f"clew_spec.{module.name}") for module in pkgutil.iter_modules(clew_spec.__path__)]


def models(base: type[BaseModel]) -> list[type[BaseModel]]:
    """Every model below `base`, but not the parametrised forms of generic ones."""
    found = [model for child in base.__subclasses__() for model in (child, *models(child))]
    return [model for model in dict.fromkeys(found) if model.__module__.startswith("clew_spec.")]


OURS = [model for model in models(BaseModel) if "[" not in model.__name__]
SPECS = models(Spec)

names = st.from_regex(r"[a-z0-9][a-z0-9._-]{0,62}", fullmatch=True)
refs = st.from_regex(r"[A-Za-z0-9][A-Za-z0-9._/-]{0,60}", fullmatch=True)
counts = st.integers(1, 10**6)
words = st.text(st.characters(codec="utf-8", exclude_characters="\0"), min_size=1, max_size=40)
maybe = st.booleans()


def some(required: dict[str, Any], optional: dict[str, Any]) -> st.SearchStrategy[dict[str, Any]]:
    return st.fixed_dictionaries(required, optional=optional)


coders = st.tuples(counts, counts).map(
    lambda pair: {"activation": {"kind": "topk", "k": min(pair)}, "n_features": max(pair)}
)
optimizers = some(
    {},
    {
        "lr": st.floats(1e-8, 1),
        "warmup_steps": st.integers(0, 1000),
        "decay_fraction": st.floats(0, 1),
        "betas": st.lists(st.floats(0, 0.9999), min_size=2, max_size=2),
    },
)
edits = st.one_of(
    some({"layer": st.integers(0, 99), "feature": counts, "operation": st.just("ablate")}, {"start": counts}),
    some(
        {
            "layer": st.integers(0, 99),
            "feature": counts,
            "operation": st.sampled_from(["set", "scale", "add"]),
            "value": st.floats(-9, 9),
        },
        {"stop": st.none() | st.integers(2, 99)},
    ),
)
specs = st.one_of(
    some({"kind": st.just("import-model"), "name": names, "path": words}, {}),
    some(
        {"kind": st.just("build-dataset"), "name": names, "model": refs},
        {
            "source": st.one_of(
                some({"kind": st.just("pydoc")}, {"packages": st.just(["numpy"])}),
                some({}, {"packages": st.just(["numpy"])}),
                some({"kind": st.just("text"), "path": words}, {"separator": st.sampled_from([None, "", "<|end|>"])}),
                some({"kind": st.sampled_from(["jsonl", "parquet"]), "path": words}, {"field": words}),
            ),
            "context": st.integers(8, 8192),
            "bos": words,
            "max_tokens": st.none() | counts,
            "heldout_fraction": st.floats(0.001, 0.999),
            "seed": st.integers(0, 2**32 - 1),
        },
    ),
    some(
        {
            "kind": st.just("train"),
            "name": names,
            "model": refs,
            "dataset": refs,
            "layers": st.lists(st.integers(0, 99), min_size=1, unique=True),
            "steps": counts,
        },
        {"coder": coders, "optimizer": optimizers, "dtype": st.sampled_from(["float32", "bfloat16"])},
    ),
    some({"kind": st.just("evaluate"), "coders": refs}, {"dataset": st.none() | refs, "tokens": st.integers(16)}),
    some(
        {"kind": st.just("import-coders"), "name": names, "path": words, "model": refs, "bos": words},
        {"layer": st.none() | st.integers(0, 99), "hook_in": st.sampled_from([None, "resid", "mlp.normed"])},
    ),
    some(
        {"kind": st.just("import-graph"), "name": names, "path": words, "model": refs, "bos": words},
        {"format": st.sampled_from(["auto", "neuronpedia"]), "view_nodes": st.integers(1, 5000)},
    ),
    some(
        {"kind": st.just("export-coders"), "coders": refs, "format": st.sampled_from(["clew", "circuit-tracer"])},
        {"dataset": st.none() | refs, "tokens": st.integers(256), "model_name": words},
    ),
    some(
        {"kind": st.just("faithfulness"), "graph": refs},
        {"nodes": st.integers(2, 1000), "ablation": st.sampled_from(["zero", "mean"])},
    ),
    st.fixed_dictionaries(
        {
            "kind": st.just("edge"),
            "graph": refs,
            "source": st.sampled_from(["token@3", "L1/F5@2", "L1/error@2", "77"]),
            "target": st.sampled_from(["logit", "logit@1", "L12/F0@0"]),
        }
    ),
    some(
        {"kind": st.just("qk"), "graph": refs, "head": st.sampled_from(["L0H1", "L12H11"]), "query": counts}
        | {"key": st.integers(0, 99)},
        {"against": st.none() | st.integers(0, 99), "top": st.integers(1, 5000)},
    ),
    some(
        {"kind": st.just("mean-edges"), "coders": refs, "layer": st.integers(0, 99), "feature": st.integers(0)},
        {"dataset": st.none() | refs, "tokens": st.integers(16), "capped": st.booleans()},
    ),
    some(
        {"kind": st.just("patch"), "model": refs, "clean": words, "corrupt": words},
        {
            "answer": st.none() | words,
            "places": st.lists(st.sampled_from(["resid", "head.out"]), min_size=1, unique=True),
            "layers": st.none() | st.lists(st.integers(0, 99), min_size=1, unique=True),
            "direction": st.sampled_from(["denoising", "noising"]),
        },
    ),
    some(
        {"kind": st.just("connections"), "coders": refs, "layer": st.integers(0, 99), "feature": st.integers(0)},
        {"upstream": st.integers(0, 1000), "heads": st.none() | st.just(["L5H3", "L0H11"])},
    ),
    some(
        {"kind": st.just("paths"), "graph": refs},
        {
            "root": st.sampled_from(
                [
                    None,
                    {"kind": "logit", "token": " Paris", "minus": None},
                    {"kind": "feature", "layer": 3, "feature": 12, "position": 5},
                ]
            ),
            "max_length": st.none() | st.integers(1, 64),
            "through_features": st.booleans(),
        },
    ),
    some(
        {"kind": st.just("steer"), "edits": st.lists(edits, min_size=1, max_size=3)},
        {"frozen": st.booleans(), "top": st.integers(1, 100)},
    ).flatmap(lambda spec: st.sampled_from([{"graph": "g"}, {"coders": "c", "prompt": "p"}]).map(spec.__or__)),
    some(
        {"kind": st.just("attribute"), "name": names, "coders": refs, "prompt": words},
        {
            "bos": st.none() | words,
            "max_logits": st.integers(1, 100),
            "desired_logit_prob": st.floats(0.01, 1),
            "position_0": st.sampled_from(["error", "features", "left-out"]),
            "targets": st.none() | st.lists(words, min_size=1),
            "layers_without_coder": st.sampled_from(["error", "refused"]),
        },
    ),
)
requests = some(
    {"spec": specs},
    {
        "priority": st.sampled_from(["low", "normal", "high"]),
        "max_retries": st.integers(0, 10),
        "visibility": st.sampled_from(["project", "lab"]),
    },
)


@pytest.mark.parametrize("model", OURS, ids=lambda model: model.__name__)
def test_unknown_fields_are_refused_everywhere(model: type[BaseModel]) -> None:
    assert model.model_config.get("extra") == "forbid"
    with pytest.raises(ValidationError) as refused:
        model.model_validate({"unknown-field": 1})
    assert ("extra_forbidden", ("unknown-field",)) in [(e["type"], e["loc"]) for e in refused.value.errors()]


@pytest.mark.parametrize("model", SPECS, ids=lambda model: model.__name__)
def test_specs_are_values(model: type[BaseModel]) -> None:
    assert model.model_config.get("frozen") is True
    assert model.model_config.get("strict") is True


@given(request=requests)
def test_a_request_is_the_same_in_python_and_in_json_and_back(request: dict[str, Any]) -> None:
    text = json.dumps(request)
    spec = JobRequest.model_validate_json(text)
    assert spec == JobRequest.model_validate(json.loads(text))
    stored = spec.model_dump(mode="json")
    assert JobRequest.model_validate(stored) == JobRequest.model_validate_json(spec.model_dump_json()) == spec
    assert JobRequest.model_validate_json(json.dumps(stored, sort_keys=True)) == spec
    for field, value in request["spec"].items():
        if field not in ("layers", "coder", "optimizer", "source", "edits"):
            assert stored["spec"][field] == value, "nothing is converted on the way"


@given(request=requests, field=st.sampled_from(["steps", "name", "context", "tokens", "max_logits"]))
def test_nothing_passes_for_what_it_is_not(request: dict[str, Any], field: str) -> None:
    """A number in a string, a fraction for a count, true for 1: errors, not conversions."""
    spec = request["spec"]
    if field not in spec:
        return
    for wrong in ({"a": 1}, [1], None, True, 1.5 if isinstance(spec[field], int) else 7, f"{spec[field]} "):
        with pytest.raises(ValidationError):
            JobRequest.model_validate_json(json.dumps({**request, "spec": spec | {field: wrong}}))


@pytest.mark.parametrize(
    "spec",
    [
        {"coder": {"activation": {"k": 33}, "n_features": 32}},
        {"layers": [1, 1]},
        {"layers": []},
        {"layers": [-1]},
        {"steps": 0},
        {"optimizer": {"betas": [0.9, 1.0]}},
        {"optimizer": {"betas": [0.9, float("nan")]}},
        {"optimizer": {"lr": float("nan")}},
        {"optimizer": {"lr": 0}},
        {"seed": 2**32},
        {"name": "Name"},
        {"name": "name\n"},
        {"model": "../model"},
        {"coder": {"kind": "crosscoder"}},
    ],
    ids=str,
)
def test_what_cannot_be_trained_is_refused(spec: dict[str, Any]) -> None:
    good = {"kind": "train", "name": "t", "model": "m", "dataset": "d", "layers": [0], "steps": 1}
    JobRequest.model_validate({"spec": good})
    with pytest.raises(ValidationError):
        JobRequest.model_validate({"spec": good | spec})


def test_layers_are_kept_in_order() -> None:
    spec = {"kind": "train", "name": "t", "model": "m", "dataset": "d", "layers": [3, 0, 2], "steps": 1}
    assert TrainSpec.model_validate(spec).layers == [0, 2, 3]


def test_every_kind_of_job_has_a_spec_and_a_pool() -> None:
    union = get_args(get_args(JobSpec)[0])
    kinds = {spec.model_fields["kind"].default for spec in union}
    assert kinds == set(get_args(JobKind)) == set(POOL_OF)
    assert set(POOL_OF.values()) == set(get_args(Pool))


def test_the_state_machine_is_closed_and_every_job_can_end() -> None:
    assert set(MOVES) == set(JobState)
    assert set().union(*MOVES.values()) <= set(JobState)
    assert {state for state, moves in MOVES.items() if not moves} == TERMINAL
    assert all(state.terminal == (state in TERMINAL) for state in JobState)
    assert all(state not in moves for state, moves in MOVES.items())
    reachable = {JobState.QUEUED, JobState.BLOCKED}
    while more := set().union(*(MOVES[state] for state in reachable)) - reachable:
        reachable |= more
    assert reachable == set(JobState)
    for state in set(JobState) - TERMINAL:
        assert JobState.CANCELLED in MOVES[state]
    assert [state for state, moves in MOVES.items() if JobState.RUNNING in moves] == [JobState.DISPATCHED]
    assert [state for state, moves in MOVES.items() if JobState.SUCCEEDED in moves] == [JobState.RUNNING]


def test_an_error_survives_its_journey_as_a_problem() -> None:
    assert len({kind.code for kind in KINDS}) == len(KINDS)
    for kind in KINDS:
        error = kind("what", where="/spec/k", expected="less", hint="ask", errors=[kind("inner").problem()])
        problem = error.problem(request_id="r")
        assert 400 <= problem.status < 600
        back = from_problem(Problem.model_validate_json(problem.model_dump_json()))
        assert type(back) is kind
        assert back.problem(request_id="r") == problem
        assert str(back) == "what; at /spec/k; expected less; ask"
    strange = Problem(type="about:blank", title="Teapot", status=418, detail="short and stout")
    assert type(from_problem(strange)) is ClewError


@pytest.mark.parametrize(
    ("adapter", "line"),
    [
        (Message, {"type": "cancel", "checkpoint": True}),
        (Event, {"n": 0, "t": 1.5, "type": "progress", "phase": "train", "done": 1.0, "total": 2.0, "unit": "step"}),
        (Event, {"n": 1, "t": 2.0, "type": "metric", "step": 5, "values": {"L03/fvu": 0.5}}),
        (Event, {"n": 2, "t": 2.5, "type": "log", "level": "warning", "message": "slow"}),
        (Event, {"n": 3, "t": 3.0, "type": "checkpoint", "step": 5, "files": []}),
        (Event, {"n": 4, "t": 3.5, "type": "stopped", "step": 7}),
    ],
    ids=lambda value: value.get("type") if isinstance(value, dict) else "",
)
def test_a_line_of_the_protocol_reads_as_it_was_written(adapter: Any, line: dict[str, Any]) -> None:
    known: TypeAdapter[BaseModel] = TypeAdapter(adapter)
    message = known.validate_json(json.dumps(line))
    assert known.validate_json(message.model_dump_json()) == message
    assert line.items() <= message.model_dump(mode="json").items()
    with pytest.raises(ValidationError):
        known.validate_json(json.dumps(line | {"type": "unheard-of"}))
    with pytest.raises(ValidationError):
        known.validate_json(json.dumps(line | {"more": 1}))
