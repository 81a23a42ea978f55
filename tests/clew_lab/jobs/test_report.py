"""What is told is told once; what is done again replaces what was seen before."""

from sqlalchemy import func, select
from tests.support.jobs import OOPS, Queue

from clew_lab.catalogue.tables import Event, Metric
from clew_lab.jobs import cancel, finalise, reap
from clew_lab.jobs.notify import JOBS, Listener
from clew_lab.jobs.report import register_checkpoint, report
from clew_spec.jobs import JobState


def file(name: str, key: str) -> dict[str, object]:
    return {"name": name, "key": key, "sha256": "0" * 64, "size": 1}


def test_a_batch_that_is_sent_again_is_written_once(queue: Queue, database_url: str) -> None:
    job = queue.running()
    before = job.last_seq
    listener = Listener(database_url, JOBS)
    for number in (1, 1, 2, 1):
        with queue.sessions.begin() as session:
            entries = [("log", {"message": str(number)}), ("metric", {"step": number})]
            report(session, job.id, job.fence, entries, number=number, metrics=[(number, {"a": 1.0, "b": 2.0})])  # type: ignore[arg-type]
    with queue.sessions() as session:
        told = session.query(Event).where(Event.seq > before).order_by(Event.seq).all()
        assert [event.data.get("message") for event in told] == ["1", None, "2", None]
        assert session.query(Metric).count() == 4
    heard: list[str] = []
    while heard[-1:] != ["end"]:
        with queue.sessions.begin() as session:
            session.execute(select(func.pg_notify(JOBS, "end")))
        heard += listener.wait(5)
    assert heard.count(str(job.id)) == 2, "one notification for each batch that was written, whatever was in it"
    listener.close()


def test_orders_reach_the_holder_with_every_write(queue: Queue) -> None:
    job = queue.running()
    with queue.sessions.begin() as session:
        cancel.preempt(session, job.id)
    with queue.sessions.begin() as session:
        orders = report(session, job.id, job.fence, [], number=1)
        assert (orders.cancel, orders.preempt) == (False, True)
        finalise.preempted(session, job.id, job.fence)
    after = queue.job(job.id)
    assert (after.state, after.preempt_requested, after.preempt_count) == (JobState.QUEUED, False, 1)


def test_points_past_the_checkpoint_are_hidden_when_they_are_measured_anew(queue: Queue) -> None:
    job = queue.running()
    with queue.sessions.begin() as session:
        points = [(step, {"fvu": 1.0 / step}) for step in range(1, 8)]
        report(session, job.id, job.fence, [], number=1, metrics=points)
        assert register_checkpoint(session, job.id, job.fence, 3, [file("a", "k3")]) == []
    with queue.sessions.begin() as session:
        assert register_checkpoint(session, job.id, job.fence, 5, [file("a", "k5")]) == ["k3"]
    with queue.sessions.begin() as session:
        again = register_checkpoint(session, job.id, job.fence, 5, [file("a", "k5")])
        assert again == [], "a repeated call must not give up the checkpoint it registered"
    queue.lapse(job.id)
    with queue.sessions.begin() as session:
        reap.reap(session, max_lost=5)
    (bell,) = queue.dispatch()
    worker = next(iter(queue.worker_ids))
    assert queue.claim(bell.job_id, bell.fence, worker) is not None
    with queue.sessions.begin() as session:
        report(session, job.id, bell.fence, [], number=1, metrics=[(6, {"fvu": 0.5})])
    with queue.sessions() as session:
        rows = session.query(Metric).order_by(Metric.step, Metric.fence).all()
        shown = [(row.step, row.fence) for row in rows if not row.hidden]
        assert shown == [*((step, 1) for step in range(1, 6)), (6, 2)]
        assert len(rows) == 8, "hidden, not deleted"
    assert queue.job(job.id).checkpoint == {"step": 5, "fence": 1, "files": [file("a", "k5")]}


def test_failures_losses_and_preemptions_are_counted_apart(queue: Queue) -> None:
    """Only failures spend retries; too many losses fail the job, with a reason."""
    job = queue.running(max_retries=1)
    worker = next(iter(queue.worker_ids))
    for ending in ("preempted", "lost", "fail", "lost", "preempted", "lost"):
        fence = queue.job(job.id).fence
        with queue.sessions.begin() as session:
            match ending:
                case "preempted":
                    finalise.preempted(session, job.id, fence)
                case "lost":
                    finalise.lost(session, job.id, fence, OOPS, max_lost=2)
                case "fail":
                    finalise.fail(session, job.id, fence, OOPS, retryable=True)
        for bell in queue.dispatch():
            assert queue.claim(bell.job_id, bell.fence, worker) is not None
    after = queue.job(job.id)
    assert (after.failure_count, after.lost_count, after.preempt_count) == (1, 3, 2)
    assert after.state == JobState.FAILED
    assert after.error is not None
    assert after.error["hint"] == "3 attempts were lost; the limit is 2"


def test_a_lost_job_that_was_to_be_cancelled_is_cancelled(queue: Queue) -> None:
    job = queue.running()
    with queue.sessions.begin() as session:
        cancel.cancel(session, queue.actor, job.id)
    queue.lapse(job.id)
    with queue.sessions.begin() as session:
        assert reap.reap(session, max_lost=5) == [job.id]
    assert queue.job(job.id).state == JobState.CANCELLED
