"""What the jobs of a pipeline would take, judged by what those before them are asked to make."""

from dataclasses import dataclass, field

from clew_api.lab import Lab
from clew_api.submission import unseen
from clew_lab.catalogue import refs
from clew_lab.catalogue.finding import NO_BOS, Resolved, coders_and_model, find
from clew_lab.catalogue.queries import file_of
from clew_lab.catalogue.scope import Actor
from clew_lab.catalogue.tables import Dataset, Model
from clew_lab.jobs.estimates import estimate_job
from clew_spec.api import EstimateView
from clew_spec.batches import RefField, awaited, references
from clew_spec.coders import CoderConfig
from clew_spec.datasets import BuildDatasetSpec
from clew_spec.estimates import DatasetFacts, Facts
from clew_spec.jobs import JobRequest
from clew_spec.results import ModelConfig
from clew_spec.training import TrainSpec

MANY = 10**9
"""Tokens of a dataset whose length is not known before it is built: nothing that a job does is cut short by it."""
UNREAD = "how long the dataset is will be known once it is built"


@dataclass
class Made:
    """What a job refers to or makes, as far as it is known before."""

    model: Model | None = None
    dataset: DatasetFacts | None = None
    bos: str = NO_BOS
    coders: dict[str, list[CoderConfig]] = field(default_factory=dict)
    """By variant; of a single set, under no name."""


class Plan:
    """Of one pipeline, whose jobs are asked about each behind those it waits for."""

    def __init__(self, lab: Lab, actor: Actor) -> None:
        self._lab = lab
        self._actor = actor
        self._made: dict[str, Made] = {}

    def estimate(self, name: str, request: JobRequest) -> EstimateView:
        """Of a job that waits for others. Raises `InvalidSpec` where its prompt is too long for the model."""
        made, variant = self._given(request)
        self._note(name, request, made)
        if made.model is None:
            return unseen(name)
        coders = made.coders.get(variant, [])
        dataset = made.dataset if hasattr(request.spec, "dataset") else None
        facts = Facts(
            model=ModelConfig.model_validate(made.model.config),
            dataset=dataset,
            coders=coders,
            prompt_tokens=self._prompt_tokens(request, made),
        )
        inputs = {"model": str(made.model.id)}
        try:
            with self._lab.transaction() as session:
                alive_s = self._lab.settings.alive_s
                found = estimate_job(session, self._actor, request, inputs, facts, alive_s=alive_s)
        except ValueError:  # of a graph that is yet to be made nothing is known
            return unseen(name)
        if dataset is None or dataset.train_tokens < MANY:
            return found
        unknown = {"disk": None, "disk_bytes": None, "unknown": found.estimate.unknown | {"disk": UNREAD}}
        return found.model_copy(update={"estimate": found.estimate.model_copy(update=unknown)})

    def note(self, name: str, request: JobRequest) -> None:
        """A job that waits for none: others may refer to what it makes."""
        made, _ = self._given(request)
        self._note(name, request, made)

    def _given(self, request: JobRequest) -> tuple[Made, str]:
        made, variant = Made(), ""
        jobs = awaited(request.spec)
        for field_, (other, slash_variant) in jobs.items():
            self._take(made, field_, self._made[other])
            variant = slash_variant.removeprefix("/") or variant
        with self._lab.transaction() as session:
            for field_, ref in references(request.spec).items():
                if field_ in jobs:
                    continue
                if field_ == "model":
                    made.model = find(session, self._actor, Model, ref, "/spec/model")
                elif field_ == "dataset":
                    dataset = find(session, self._actor, Dataset, ref, "/spec/dataset")
                    made.bos = dataset.bos
                    made.dataset = DatasetFacts.model_validate(
                        {name: getattr(dataset, name) for name in DatasetFacts.model_fields}
                    )
                elif field_ == "coders":
                    coders, made.model = coders_and_model(session, self._actor, ref)
                    made.coders = {"": [CoderConfig.model_validate(coder.config) for coder in coders]}
        return made, variant

    @staticmethod
    def _take(made: Made, field_: RefField, other: Made) -> None:
        if field_ in ("coders", "graph", "model"):
            made.model, made.coders = other.model, other.coders
        made.dataset = made.dataset or other.dataset
        made.bos = other.bos

    def _note(self, name: str, request: JobRequest, made: Made) -> None:
        spec = request.spec
        self._made[name] = Made(made.model, made.dataset, made.bos, made.coders)
        if isinstance(spec, BuildDatasetSpec):
            heldout = MANY if spec.max_tokens is None else round(spec.max_tokens * spec.heldout_fraction)
            train = MANY if spec.max_tokens is None else spec.max_tokens - heldout
            facts = DatasetFacts(context=spec.context, train_tokens=train, heldout_tokens=heldout)
            self._made[name] = Made(None, facts, spec.bos)
        if isinstance(spec, TrainSpec) and made.model is not None:
            self._made[name].coders = _coders(spec, made.model, made.bos)

    def _prompt_tokens(self, request: JobRequest, made: Made) -> int | None:
        if made.model is None or getattr(request.spec, "prompt", None) is None:
            return None
        with self._lab.transaction() as session:
            file = file_of(session, made.model, "tokenizer.json")
        if file is None:
            return None
        resolved = Resolved(name="", max_context=made.model.config["max_context"], bos=made.bos)
        return refs.check_text(request.spec, resolved, self._lab.tokenizers.get(file))


def _coders(spec: TrainSpec, model: Model, bos: str) -> dict[str, list[CoderConfig]]:
    """As training makes them, but for what cannot change an estimate."""
    width = model.config["d_model"]
    return {
        variant or "": [
            CoderConfig(
                kind=coder.kind,
                activation=coder.activation,
                n_features=coder.n_features,
                d_in=width,
                d_out=width,
                layer=layer,
                later_layers=[later for later in spec.layers if later > layer]
                if coder.kind == "cross-layer-transcoder"
                else [],
                hook_in=coder.hook_in,
                hook_out=coder.writes,
                centred=coder.kind == "sae",
                model_digest=model.digest,
                tokenizer_digest=model.tokenizer_digest,
                bos=bos,
            )
            for layer in spec.layers
        ]
        for variant, coder in spec.variants
    }
