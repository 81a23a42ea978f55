"""Analyses of circuits as a runner does them: a circuit that is known goes in as files and comes out as documents."""

import io
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from tests.clew.circuits import planted as p
from tests.clew.toys import ToyCoder, toy_tokenizer

from clew.coders import Coder, save_coder
from clew.coders.store import CODER_FILES
from clew_spec.attribution import AttributeSpec
from clew_spec.coders import CoderConfig, TopK
from clew_spec.connections import ConnectionsDocument, ConnectionsSpec
from clew_spec.errors import InvalidSpec
from clew_spec.jobs import JobSpec
from clew_spec.paths import FeatureRoot, LogitRoot, PathsDocument, PathsSpec
from clew_spec.results import ConnectionsResult, GraphResult, Lineage, PathsResult
from clew_spec.runner import RunJob
from clew_worker.runner.channel import Inbox, Outbox
from clew_worker.runner.handlers import HANDLERS
from clew_worker.runner.work import Work

pytestmark = pytest.mark.lab

PROMPT = " ".join(f"w{token}" for token in p.TOKENS_T.tolist())


@dataclass(frozen=True)
class Bench:
    """A model and its coders in a folder, as a job finds them."""

    inputs: Path
    records: dict[str, Any]
    scratch: Path

    def run(self, spec: JobSpec, **records: Any) -> Any:
        scratch = self.scratch / spec.kind
        out = scratch / "out"
        out.mkdir(parents=True, exist_ok=True)
        job = RunJob(
            job_id="j",
            project_id="p",
            fence=1,
            spec=spec,
            records=records or self.records,
            scratch=str(scratch),
            cache=str(scratch),
            code_version="test",
        )
        report = Outbox(scratch, Inbox(io.StringIO()))
        work = Work(job, spec, self.inputs, None, out, report)
        try:
            return HANDLERS[job.spec.kind](work)
        finally:
            report.close()

    def file(self, kind: str, name: str) -> bytes:
        return (self.scratch / kind / "out" / name).read_bytes()


@pytest.fixture(scope="module")
def bench(tmp_path_factory: pytest.TempPathFactory) -> Bench:
    folder = tmp_path_factory.mktemp("planted")
    model, coders = p.planted("RMSNorm, sequential")
    hf = torch.nn.Module.to(model.hf, torch.float32)
    hf.config.architectures = ["LlamaForCausalLM"]
    (folder / "inputs/model").mkdir(parents=True)
    weights = {name: weight.float().contiguous() for name, weight in hf.state_dict().items()}
    save_file(weights, folder / "inputs/model/model.safetensors", metadata={"format": "pt"})
    hf.config.save_pretrained(folder / "inputs/model")
    toy_tokenizer(p.VOCAB).save_pretrained(folder / "inputs/model")
    records = []
    for layer, coder in coders.items():
        name = f"coders/L{layer:02}"
        stored = _stored(coder)
        digest = save_coder(stored, folder / "inputs" / name, Lineage(code_version="test"))
        files = [f"{name}/{file}" for file in CODER_FILES]
        config = stored.config.model_dump(mode="json")
        records.append(
            {"id": f"c{layer}", "name": "set", "layer": layer, "digest": digest, "files": files, "config": config}
        )
    model_record = {"id": "m", "digest": "m", "tokenizer_digest": "t", "config": model.config().model_dump()}
    return Bench(folder / "inputs", {"model": model_record, "coders": records}, folder)


def _stored(coder: ToyCoder) -> Coder:
    config = CoderConfig(
        activation=TopK(k=coder.k),
        n_features=p.FEATURES,
        d_in=p.D,
        d_out=p.D,
        layer=coder.layer,
        model_digest="m",
        tokenizer_digest="t",
        bos="none",
    )
    names = ("W_enc", "b_enc", "W_dec", "b_dec")
    return Coder.of(config, {name: getattr(coder, name).float() for name in names})


def test_the_planted_connections_are_found_from_the_files(bench: Bench) -> None:
    layer, feature = p.JOINS
    named = f"L{p.HEAD[0]}H{p.HEAD[1]}"
    spec = ConnectionsSpec(coders="set", layer=layer, feature=feature, heads=[named], upstream=2, tokens=3)
    result: ConnectionsResult = bench.run(spec)
    assert result.files == ["connections.json"]
    document = ConnectionsDocument.model_validate_json(bench.file("connections", "connections.json"))
    strongest = max(document.upstream, key=lambda each: abs(each.weight))
    assert (strongest.layer, strongest.feature) == p.SEES_B
    assert strongest.weight == pytest.approx(-p.GAIN * p.INHIBITION, rel=1e-5)
    (head,) = document.through
    carried = max(head.features, key=lambda each: abs(each.weight))
    assert (carried.layer, carried.feature) == p.TWO
    assert document.promotes.highest[0].token == f"w{p.ANSWER}"
    assert result.connections.upstream[0] == strongest
    assert (result.name, result.lineage.parents) == ("set", ["m", "c0", "c1", "c2", "c3"])
    with pytest.raises(InvalidSpec, match="no feature 10") as refused:
        bench.run(spec.model_copy(update={"feature": p.FEATURES}))
    assert refused.value.where == "/spec/feature"


def test_the_planted_paths_are_found_in_the_stored_graph_alone(bench: Bench) -> None:
    graph: GraphResult = bench.run(AttributeSpec(name="g", coders="set", prompt=PROMPT, max_logits=2))
    record = {"graph": {"id": "g", "name": "g", "digest": graph.digest, "files": graph.files}}
    reader = replace(bench, inputs=bench.scratch / "attribute/out")  # there is no model
    answer = f"w{p.ANSWER}"
    result: PathsResult = reader.run(PathsSpec(graph="g", root=LogitRoot(token=answer), paths=30), **record)
    document = PathsDocument.model_validate_json(bench.file("paths", "paths.json"))
    nodes = {node.id: node for node in document.nodes}
    route = [(nodes[step.node].layer, nodes[step.node].feature) for step in document.paths[0].steps]
    assert route == [(-1, None), p.SEES_A, p.TWO, p.JOINS, (p.LAYERS, None)]
    assert (result.n_paths, len(result.paths.paths), result.lineage.parents) == (len(document.paths), 10, ["g"])
    assert result.paths.coverage == document.coverage
    for each in document.balances:
        made = each.kept + each.pruned + each.error + each.bias + each.rest
        assert made == pytest.approx(each.value, rel=1e-4, abs=1e-4)
    middle = FeatureRoot(layer=p.TWO[0], feature=p.TWO[1], position=2)
    reader.run(PathsSpec(graph="g", root=middle), **record)
    assert PathsDocument.model_validate_json(bench.file("paths", "paths.json")).root.feature == p.TWO[1]
    with pytest.raises(InvalidSpec, match="not active at position 3"):
        reader.run(PathsSpec(graph="g", root=middle.model_copy(update={"position": 3})), **record)
