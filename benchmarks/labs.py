"""A whole lab on this machine, and what is asked of it over REST."""

from collections.abc import Iterator
from contextlib import contextmanager
from hashlib import sha256
from pathlib import Path

from demo.lab import start_lab, stop_lab

from benchmarks.prompts import PROMPT
from benchmarks.subject import Subject
from clew_client import Lab
from clew_client.lab import Job
from clew_spec.attribution import AttributeSpec
from clew_spec.base import Spec
from clew_spec.coders import CoderSpec, TopK
from clew_spec.datasets import BuildDatasetSpec
from clew_spec.jobs import JobState
from clew_spec.models import ImportModelSpec
from clew_spec.training import TrainSpec

GRAPH = AttributeSpec(name="known", coders="known", prompt=PROMPT, max_nodes=500)


@contextmanager
def lab_of(data: Path, import_root: Path) -> Iterator[Lab]:
    """The lab whose data are below `data`, started for the while and signed in to."""
    data.mkdir(parents=True, exist_ok=True)
    try:
        with start_lab(data, import_root) as lab:
            yield lab
    finally:
        stop_lab(data)


def known_graph(lab: Lab, subject: Subject) -> Job:
    """A graph of the real model that the lab has made; some two minutes the first time."""
    _once(lab, ImportModelSpec(name="smollm2-135m", path=str(subject.model)))
    _once(lab, BuildDatasetSpec(name="pydoc", model="smollm2-135m", max_tokens=100_000))
    coder = CoderSpec(n_features=256, activation=TopK(k=16))
    training = TrainSpec(
        name="known", model="smollm2-135m", dataset="pydoc", layers=[9], coder=coder, steps=2, tokens_per_step=512
    )
    _once(lab, training)
    return _done(lab.submit(GRAPH))  # without a key: other code makes another graph


def _once(lab: Lab, spec: Spec) -> Job:
    """The job, made the first time and found again later."""
    return _done(lab.submit(spec, idempotency_key=sha256(spec.model_dump_json().encode()).hexdigest()[:32]))


def _done(job: Job) -> Job:
    assert job.wait(check=True).state is JobState.SUCCEEDED
    return job
