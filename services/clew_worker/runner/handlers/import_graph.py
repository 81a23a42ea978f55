"""An attribution graph from another project's file on the worker's disk into the catalogue."""

from pathlib import Path

from clew.circuits import Graph
from clew.circuits.exchange import read_circuit_tracer, read_neuronpedia
from clew.data import bos_token_id
from clew.files import file_sha256, inside_roots
from clew.models.model import load_tokenizer
from clew_spec.errors import DataError, InvalidSpec
from clew_spec.importing_graphs import ImportGraphSpec
from clew_spec.results import GraphResult
from clew_worker.runner.handlers.graphs import store_graph
from clew_worker.runner.work import Work


def import_graph(work: Work[ImportGraphSpec]) -> GraphResult:
    spec = work.spec
    source, roots = work.source(spec.path)
    path = inside_roots(source, roots, where="/spec/path")
    if not path.is_file():
        raise InvalidSpec(f"{spec.path!r} is not a file that exists", where="/spec/path", expected="a file of a graph")
    format = spec.format
    if format == "auto":
        format = "circuit-tracer" if source.name.endswith(".pt") else "neuronpedia"
    work.report.progress("read", 0, 1, "file")
    graph = _read(work, path, format)
    read = {"format": format, "files": {path.name: file_sha256(path)}}
    lineage = work.lineage().model_copy(update={"source": read})
    return store_graph(work, graph, spec.name, spec.view_nodes, lineage)


def _read(work: Work[ImportGraphSpec], path: Path, format: str) -> Graph:
    """Raises DataError where the file does not fit the model."""
    bos, config = work.spec.bos, work.model_record["config"]
    tokenizer = load_tokenizer(work.inputs / "model")
    first = bos_token_id(tokenizer, bos)
    if format == "neuronpedia":
        graph = read_neuronpedia(path, bos=bos, n_layers=config["n_layers"])
    else:
        graph = read_circuit_tracer(
            path, lambda token: str(tokenizer.decode([token])), bos=bos, n_layers=config["n_layers"]
        )
    if (largest := max(graph.token_ids)) >= config["vocab_size"]:
        raise DataError(
            f"the prompt has the token {largest}", expected=f"ids below {config['vocab_size']}, as the model has"
        )
    if first is not None and graph.token_ids[0] != first:
        raise DataError(
            f"the prompt begins with the token {graph.token_ids[0]}, not with {first}",
            where="/spec/bos",
            expected="what the graph was made with, or `none`",
        )
    return graph
