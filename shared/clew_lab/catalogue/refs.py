"""Before a job is queued: what its spec refers to, and whether that fits. The runner checks again what it is given.

`resolve` reads the catalogue; `check_text` needs the model's tokenizer, which is fetched between the two, so that no
transaction waits for the object store.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from sqlalchemy.orm import Session
from tokenizers import Tokenizer

from clew_lab.catalogue.circuit_refs import (
    check_patch,
    check_positions,
    coding,
    connections,
    edge,
    faithfulness,
    mean_edges,
    patch,
    paths,
    qk,
    steer,
)
from clew_lab.catalogue.finding import NO_BOS, OWN_BOS, Resolved, coders_and_model, find, same_bos, used
from clew_lab.catalogue.import_paths import check_import_path
from clew_lab.catalogue.queries import file_of
from clew_lab.catalogue.scope import Actor
from clew_lab.catalogue.tables import Coder, Dataset, Model
from clew_lab.catalogue.uploads import find_upload
from clew_spec import hub
from clew_spec.attribution import AttributeSpec, require_every_layer, token_ids
from clew_spec.coders import CoderConfig
from clew_spec.connections import ConnectionsSpec
from clew_spec.datasets import BuildDatasetSpec, FileSource
from clew_spec.edges import EdgeSpec
from clew_spec.errors import InvalidSpec
from clew_spec.evaluation import EvaluateSpec
from clew_spec.exporting import ExportCodersSpec
from clew_spec.faithfulness import FaithfulnessSpec
from clew_spec.formats import needs_threshold, require_set_sayable
from clew_spec.importing import ImportCodersSpec
from clew_spec.importing_graphs import GRAPH_ENDINGS, ImportGraphSpec
from clew_spec.jobs import JobSpec
from clew_spec.mean_edges import MeanEdgesSpec
from clew_spec.models import ImportModelSpec
from clew_spec.patching import PatchSpec
from clew_spec.paths import PathsSpec
from clew_spec.qk import QKSpec
from clew_spec.steering import SteerSpec
from clew_spec.training import TrainSpec
from clew_spec.uploads import split_ref

CODER_ENDINGS = (".pt", ".npz", ".safetensors")
POST_NORM = frozenset({"Gemma2ForCausalLM", "Gemma3ForCausalLM"})
"""Models with a norm between an MLP and the residual stream."""


def resolve(session: Session, actor: Actor, spec: JobSpec, *, import_roots: Sequence[Path]) -> Resolved:
    """Raises `InvalidSpec` that points at the field which names nothing visible, or does not fit the others."""
    match spec:
        case ImportModelSpec():
            if hub.of_path(spec.path) is not None:
                return Resolved(name=spec.name)
            source = _source(session, actor, spec.path, import_roots, (".gguf",), of_folders=(".gguf", ".safetensors"))
            return Resolved(name=spec.name, inputs=source)
        case BuildDatasetSpec():
            resolved = _build_dataset(session, actor, spec)
            if not isinstance(spec.source, FileSource):
                return resolved
            given, endings = spec.source.path, spec.source.endings
            return resolved.also(_source(session, actor, given, import_roots, endings, where="/spec/source/path"))
        case TrainSpec():
            return _train(session, actor, spec)
        case EvaluateSpec():
            return _evaluate(session, actor, spec)
        case AttributeSpec():
            return _attribute(session, actor, spec)
        case ImportCodersSpec():
            source = _source(session, actor, spec.path, import_roots, CODER_ENDINGS)
            return _import_coders(session, actor, spec).also(source)
        case ImportGraphSpec():
            source = _source(session, actor, spec.path, import_roots, GRAPH_ENDINGS, folder=False)
            return _import_graph(session, actor, spec).also(source)
        case ExportCodersSpec():
            return _export_coders(session, actor, spec)
        case SteerSpec():
            return steer(session, actor, spec, _stand_in_for_mlps)
        case FaithfulnessSpec():
            return faithfulness(session, actor, spec)
        case PatchSpec():
            return patch(session, actor, spec)
        case EdgeSpec():
            return edge(session, actor, spec)
        case QKSpec():
            return qk(session, actor, spec)
        case MeanEdgesSpec():
            return mean_edges(session, actor, spec, _stand_in_for_mlps, _heldout_of)
        case ConnectionsSpec():
            return connections(session, actor, spec, _stand_in_for_mlps)
        case PathsSpec():
            return paths(session, actor, spec)


def check_text(spec: JobSpec, resolved: Resolved, tokenizer: Tokenizer) -> int | None:
    """What only the tokenizer knows: whether tokens exist, and the length of a prompt, which is returned.

    Raises `InvalidSpec`.
    """
    if resolved.bos not in (NO_BOS, OWN_BOS) and tokenizer.token_to_id(resolved.bos) is None:
        raise InvalidSpec(
            f"the model's tokenizer has no token {resolved.bos!r}",
            where="/spec/bos",
            expected="`none`, `bos` or the text of one token",
        )
    if isinstance(spec, FaithfulnessSpec):
        for index, text in enumerate(spec.paraphrases):
            _prompt_length(text, resolved, tokenizer, f"/spec/paraphrases/{index}")
    if isinstance(spec, PatchSpec):
        return check_patch(spec, tokenizer, lambda text, where: _prompt_length(text, resolved, tokenizer, where))
    if not isinstance(spec, AttributeSpec | SteerSpec) or spec.prompt is None:
        return None
    if isinstance(spec, AttributeSpec):
        token_ids(spec, *coding(tokenizer))
    with_bos = _prompt_length(spec.prompt, resolved, tokenizer, "/spec/prompt")
    if isinstance(spec, SteerSpec):
        check_positions(spec, with_bos, resolved.max_context)
    return with_bos


def _prompt_length(text: str, resolved: Resolved, tokenizer: Tokenizer, where: str) -> int:
    """Tokens, the first included. Raises InvalidSpec where there are none or too many."""
    tokens = len(tokenizer.encode(text, add_special_tokens=False).ids)
    with_bos = tokens + (resolved.bos != NO_BOS)
    if tokens == 0 or with_bos > resolved.max_prompt_tokens:
        raise InvalidSpec(
            f"the prompt has {with_bos} tokens" if tokens else "the prompt has no tokens",
            where=where,
            expected=f"1 to {resolved.max_prompt_tokens} tokens",
        )
    return with_bos


def _source(
    session: Session,
    actor: Actor,
    path: str,
    import_roots: Sequence[Path],
    endings: tuple[str, ...],
    *,
    of_folders: tuple[str, ...] = (),
    folder: bool = True,
    where: str = "/spec/path",
) -> dict[str, str]:
    """The upload that a path names, as an input of the job; nothing of a path on the worker's disk, once it is checked.

    of_folders: what files of a folder end in, where that is more than `endings`.
    """
    if split_ref(path) is None:
        check_import_path(path, import_roots, where=where, endings=endings)
        return {}
    found = find_upload(session, actor, path, where=where, endings=of_folders or endings, folder=folder)
    return {"upload": str(found)}


def _build_dataset(session: Session, actor: Actor, spec: BuildDatasetSpec) -> Resolved:
    model = find(session, actor, Model, spec.model, "/spec/model")
    _within_context(spec.context, model, "/spec/context")
    return Resolved(
        name=spec.name,
        inputs={"model": str(model.id)},
        tokenizer=file_of(session, model, "tokenizer.json") if spec.bos not in (NO_BOS, OWN_BOS) else None,
        bos=spec.bos,
    )


def _train(session: Session, actor: Actor, spec: TrainSpec) -> Resolved:
    model = find(session, actor, Model, spec.model, "/spec/model")
    dataset = find(session, actor, Dataset, spec.dataset, "/spec/dataset")
    n_layers = model.config["n_layers"]
    for index, layer in enumerate(spec.layers):
        if layer >= n_layers:
            raise InvalidSpec(
                f"layer {layer} is out of range: model {model.name} has {n_layers} layers",
                where=f"/spec/layers/{index}",
                expected=f"0 to {n_layers - 1}",
            )
    _same_tokenizer(dataset, model)
    _within_context(dataset.context, model, "/spec/dataset")
    if spec.tokens_per_step < dataset.context:
        raise InvalidSpec(
            f"{spec.tokens_per_step} tokens are less than one row of dataset {dataset.name}",
            where="/spec/tokens_per_step",
            expected=f"at least {dataset.context}",
        )
    return Resolved(name=spec.name, inputs={"model": str(model.id), "dataset": str(dataset.id)})


def _evaluate(session: Session, actor: Actor, spec: EvaluateSpec) -> Resolved:
    coders, model = coders_and_model(session, actor, spec.coders)
    dataset = _heldout_of(session, actor, coders, model, spec.dataset)
    return Resolved(
        name=coders[0].name,
        inputs={"model": str(model.id), "dataset": str(dataset.id), "coders": [str(coder.id) for coder in coders]},
    )


def _import_coders(session: Session, actor: Actor, spec: ImportCodersSpec) -> Resolved:
    model = find(session, actor, Model, spec.model, "/spec/model")
    inputs = {"model": str(model.id)}
    if spec.layer is not None and spec.layer >= model.config["n_layers"]:
        raise InvalidSpec(
            f"layer {spec.layer} is out of range: model {model.name} has {model.config['n_layers']} layers",
            where="/spec/layer",
            expected=f"0 to {model.config['n_layers'] - 1}",
        )
    if spec.dataset is not None:
        dataset = find(session, actor, Dataset, spec.dataset, "/spec/dataset")
        _same_tokenizer(dataset, model)
        if dataset.bos != spec.bos:
            raise InvalidSpec(
                f"dataset {dataset.name} has bos {dataset.bos!r}", where="/spec/bos", expected=repr(dataset.bos)
            )
        inputs["dataset"] = str(dataset.id)
    return Resolved(
        name=spec.name,
        inputs=inputs,
        tokenizer=file_of(session, model, "tokenizer.json") if spec.bos not in (NO_BOS, OWN_BOS) else None,
        bos=spec.bos,
    )


def _import_graph(session: Session, actor: Actor, spec: ImportGraphSpec) -> Resolved:
    if split_ref(spec.path) is None and not spec.path.endswith(GRAPH_ENDINGS):
        raise InvalidSpec(
            f"{spec.path} is no file of a graph",
            where="/spec/path",
            expected=f"a file that ends in {' or '.join(GRAPH_ENDINGS)}",
        )
    model = find(session, actor, Model, spec.model, "/spec/model")
    return Resolved(
        name=spec.name,
        inputs={"model": str(model.id)},
        tokenizer=file_of(session, model, "tokenizer.json") if spec.bos not in (NO_BOS, OWN_BOS) else None,
        bos=spec.bos,
    )


def _export_coders(session: Session, actor: Actor, spec: ExportCodersSpec) -> Resolved:
    coders, model = coders_and_model(session, actor, spec.coders)
    configs = [CoderConfig.model_validate(coder.config) for coder in coders]
    require_set_sayable(spec.format, configs, post_norm=model.config["architecture"] in POST_NORM)
    inputs: dict[str, Any] = {"coders": [str(coder.id) for coder in coders]}
    if any(needs_threshold(spec.format, config) for config in configs):
        dataset = _heldout_of(session, actor, coders, model, spec.dataset)
        inputs |= {"model": str(model.id), "dataset": str(dataset.id)}
    return Resolved(name=coders[0].name, inputs=inputs)


def _attribute(session: Session, actor: Actor, spec: AttributeSpec) -> Resolved:
    coders, model = coders_and_model(session, actor, spec.coders)
    _stand_in_for_mlps(coders)
    require_every_layer(spec, [coder.layer for coder in coders], model.config["n_layers"])
    if spec.bos is not None:
        same_bos(coders, spec.bos, "/spec/bos", "the request")
    return Resolved(
        name=spec.name,
        inputs={"model": str(model.id), "coders": [str(coder.id) for coder in coders]},
        tokenizer=file_of(session, model, "tokenizer.json"),
        max_context=model.config["max_context"],
        bos=coders[0].config["bos"],
    )


def _heldout_of(session: Session, actor: Actor, coders: Sequence[Coder], model: Model, ref: str | None) -> Dataset:
    """The dataset `ref`, or that of the coders if there is none, from which the model's coders can be measured."""
    where = "/spec/coders" if ref is None else "/spec/dataset"
    if ref is not None:
        dataset = find(session, actor, Dataset, ref, where)
    elif (own := coders[0].dataset_id) is not None:
        dataset = used(session, actor, Dataset, own, "give `dataset`, or ask its owners to show it")
    else:
        raise InvalidSpec("what these coders learned from is not known", where=where, hint="give `dataset`")
    _same_tokenizer(dataset, model)
    _within_context(dataset.context, model, where)
    same_bos(coders, dataset.bos, where, f"dataset {dataset.name}")
    if dataset.heldout_tokens == 0:
        raise InvalidSpec(f"dataset {dataset.name} holds out no text", where=where, expected="one that does")
    return dataset


def _stand_in_for_mlps(coders: Sequence[Coder]) -> None:
    """Only what writes an MLP's output from its input can be attributed through."""
    for coder in coders:
        config = CoderConfig.model_validate(coder.config)
        if (config.hook_in, config.hook_out) != ("mlp.in", "mlp.out"):
            raise InvalidSpec(
                f"coder {coder.name} of layer {coder.layer} reads {config.hook_in} and writes {config.hook_out}",
                where="/spec/coders",
                expected="transcoders, which write mlp.out from mlp.in",
            )


def _same_tokenizer(dataset: Dataset, model: Model) -> None:
    if dataset.tokenizer_digest != model.tokenizer_digest:
        raise InvalidSpec(
            f"dataset {dataset.name} was made with another tokenizer than that of model {model.name}",
            where="/spec/dataset",
            expected=f"a dataset with tokenizer {model.tokenizer_digest[:12]}",
            hint="build one with this model's tokenizer",
        )


def _within_context(context: int, model: Model, where: str) -> None:
    longest = model.config["max_context"]
    if context > longest:
        raise InvalidSpec(
            f"rows of {context} tokens are longer than the context of model {model.name}",
            where=where,
            expected=f"at most {longest} tokens",
        )
