"""From what a job made to what the catalogue shows."""

from uuid import UUID, uuid4

import pytest
from sqlalchemy import update
from sqlalchemy.orm import Session
from tests.support.jobs import Queue, dataset_result, make_actor, queue, uploaded

from clew_lab.catalogue.publish import Uploaded, published_key
from clew_lab.catalogue.tables import Artifact, Coder, Job
from clew_lab.jobs import finalise
from clew_spec.coders import CoderConfig, TopK
from clew_spec.errors import DataError
from clew_spec.evaluation import CoderMetrics
from clew_spec.results import CodersResult, EvaluationResult, Lineage, TrainedCoder

__all__ = ["queue"]

LINEAGE = Lineage(code_version="test", parents=["whatever the runner says"])
MODEL, DATASET = str(uuid4()), str(uuid4())


def coder(layer: int) -> TrainedCoder:
    config = CoderConfig(
        activation=TopK(k=2),
        n_features=8,
        d_in=4,
        d_out=4,
        layer=layer,
        model_digest="0" * 64,
        tokenizer_digest="0" * 64,
        dataset_digest="0" * 64,
        bos="none",
    )
    files = [f"coders/L{layer:02d}/weights.safetensors"]
    return TrainedCoder(layer=layer, digest="2" * 64, config=config, files=files, fvu_first=1.0, fvu_last=0.5)


def metrics(layer: int) -> CoderMetrics:
    return CoderMetrics(
        layer=layer,
        tokens=10,
        fvu=0.5,
        l0=2,
        dead=0,
        dead_fraction=0,
        ce_original=1,
        ce_spliced=2,
        ce_zero=3,
        loss_recovered_zero=0.5,
    )


def give_inputs(queue: Queue, job: Job, **inputs: object) -> None:
    with queue.sessions.begin() as session:
        session.execute(update(Job).where(Job.id == job.id).values(inputs=inputs))


def trained(queue: Queue) -> list[Coder]:
    job = queue.running()
    give_inputs(queue, job, model=MODEL, dataset=DATASET)
    coders = [coder(3), coder(5)]
    result = CodersResult(name="set", coders=coders, steps=9, tokens_seen=90, lineage=LINEAGE)
    with queue.sessions.begin() as session:
        files = [uploaded(job, job.fence, name) for made in coders for name in made.files]
        finalise.succeed(session, job.id, job.fence, result, files)
    with queue.sessions() as session:
        return session.query(Coder).where(Coder.job_id == job.id).order_by(Coder.layer).all()


def test_variants_of_a_layer_are_sets_of_their_own(queue: Queue) -> None:
    job = queue.running()
    give_inputs(queue, job, model=MODEL, dataset=DATASET)
    made = [
        coder(3).model_copy(update={"variant": name, "files": [f"coders/L03.{name}/cfg.json"]}) for name in ("a", "b")
    ]
    result = CodersResult(name="set", coders=made, steps=9, tokens_seen=90, lineage=LINEAGE)
    with queue.sessions.begin() as session:
        files = [uploaded(job, job.fence, name) for each in made for name in each.files]
        finalise.succeed(session, job.id, job.fence, result, files)
    with queue.sessions() as session:
        found = session.query(Coder).where(Coder.job_id == job.id).order_by(Coder.name).all()
    assert [(each.name, each.layer, each.files) for each in found] == [
        ("set.a", 3, ["coders/L03.a/cfg.json"]),
        ("set.b", 3, ["coders/L03.b/cfg.json"]),
    ]


def evaluate(session: Session, job: Job, ids: list[UUID]) -> None:
    result = EvaluationResult(
        coders=[metrics(layer) for layer in range(len(ids))], coder_ids=[str(id) for id in ids], lineage=LINEAGE
    )
    finalise.succeed(session, job.id, job.fence, result, [])


def test_a_set_of_coders_is_one_record_a_layer_with_the_parents_it_was_accepted_with(queue: Queue) -> None:
    third, fifth = trained(queue)
    assert (third.layer, fifth.layer, third.name, third.visibility) == (3, 5, "set", "project")
    assert third.lineage["parents"] == [MODEL, DATASET]
    assert (str(third.model_id), str(third.dataset_id)) == (MODEL, DATASET)
    assert third.metrics is None
    with queue.sessions() as session:
        names = {artifact.name for artifact in session.query(Artifact)}
    assert names == {*third.files, *fifth.files}


def test_an_evaluation_is_noted_with_ones_own_coders_alone(queue: Queue) -> None:
    (mine, other) = trained(queue)
    theirs_project = make_actor(queue.sessions, "theirs").project_id
    with queue.sessions.begin() as session:
        job = session.get_one(Job, other.job_id)
        foreign = Job(
            **{
                column: getattr(job, column)
                for column in ("visibility", "kind", "name", "spec", "inputs", "pool", "priority", "request_digest")
            },
            project_id=theirs_project,
        )
        session.add(foreign)
        session.flush()
        session.execute(update(Coder).where(Coder.id == other.id).values(project_id=theirs_project, job_id=foreign.id))
    job = queue.running()
    give_inputs(queue, job, coders=[str(mine.id), str(other.id)])
    with queue.sessions.begin() as session:
        evaluate(session, job, [mine.id, other.id])
    with queue.sessions() as session:
        noted = session.get_one(Coder, mine.id)
        assert noted.metrics == metrics(0).model_dump(mode="json")
        assert noted.evaluated_by == job.id
        assert session.get_one(Coder, other.id).metrics is None
    assert (queue.job(job.id).result or {})["coder_ids"] == [str(mine.id), str(other.id)]


def test_a_result_that_does_not_fit_publishes_nothing(queue: Queue) -> None:
    mine, _ = trained(queue)
    job = queue.running()
    file = uploaded(job, job.fence)
    for files in ([], [file, file]):
        with pytest.raises(DataError), queue.sessions.begin() as session:
            finalise.succeed(session, job.id, job.fence, dataset_result(), files)
    with pytest.raises(DataError, match="not of the coders"), queue.sessions.begin() as session:
        evaluate(session, job, [mine.id])
    with queue.sessions() as session:
        assert session.query(Artifact).where(Artifact.job_id == job.id).count() == 0
    assert queue.job(job.id).state == "running"


def test_equal_content_is_found_again_inside_the_project_alone(queue: Queue) -> None:
    job = queue.running()
    file = Uploaded("dataset/tokens.bin", "projects/p/jobs/j/1/dataset/tokens.bin", "7" * 64, 6, "text/plain")
    with queue.sessions.begin() as session:
        assert published_key(session, job.project_id, file.sha256, 6) is None
        finalise.succeed(session, job.id, job.fence, dataset_result(), [file])
    stranger = make_actor(queue.sessions, "stranger").project_id
    with queue.sessions() as session:
        assert published_key(session, job.project_id, file.sha256, 6) == file.key
        assert published_key(session, job.project_id, file.sha256, 7) is None
        assert published_key(session, stranger, file.sha256, 6) is None
