"""The queue against what a busy lab asks of it: decisions with many waiting jobs, answers beside many past ones.

What is held against a peer lies beside: jobs taken in and started in `queue_jobs`, files in `queue_files`.

Servers are real and durable, on this machine. A decision is the whole transaction but its commit: who runs next, with
the jobs' moves and events. An answer is an HTTP request from another process, read to its end.
"""

import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from statistics import median, quantiles

import httpx2
from sqlalchemy import text

from benchmarks.bench import ROOT, Bench
from benchmarks.queue_files import artifact_1gb
from benchmarks.queue_jobs import accept, claim
from benchmarks.queue_lab import PROJECTS, QueueLab, queue_lab
from benchmarks.queue_sweep import sweep_10k
from benchmarks.rows import Row
from clew_lab.jobs import standing
from clew_lab.jobs.dispatch import dispatch

WAITING, DECISIONS, WORKERS = 100_000, 300, 8
PAST, CURVES, POINTS, REQUESTS = 1_000_000, 10_000, 1000, 200
"""Past jobs; those of them that have metrics, and how many points each; requests of each sort."""
ALIVE_S = 1e6

JOBS = """
    insert into jobs (project_id, visibility, kind, name, spec, inputs, pool, priority, request_digest, state,
                      fence, last_seq, needs_gpu_memory, needs_ram_alone, created_at, updated_at, started_at,
                      finished_at)
    select owner.id, case when n % 100 = 0 then 'lab' else 'project' end, {kind}, 'job-' || n,
           cast(:spec as jsonb), '{{}}', 'train', {priority}, repeat('0', 64), {state}, 1, 2,
           {needs}, {needs}, now() - make_interval(secs => :n - n), now() - make_interval(secs => :n - n),
           {ended}, {ended}
    from generate_series(1, :n) n
    join (select id, row_number() over (order by id) - 1 as place from projects) owner on owner.place = {owner}
    order by n
"""
SPEC = '{"kind": "import-model", "name": "m", "path": "/models/m"}'


def dispatch_100k(bench: Bench) -> Row:
    """Decide who runs next, of 100,000 waiting jobs in 50 projects, as workers come free by ones and twos."""
    waiting, decisions = (2000, 10) if bench.tiny else (WAITING, bench.repetitions(DECISIONS))
    with queue_lab() as lab:
        lab.run(
            JOBS.format(
                kind="'import-model'",
                priority="(n % 10 = 0)::int - (n % 10 = 1)::int",
                state="'queued'",
                needs="(1 + n % 7) * 2::bigint ^ 30",
                ended="null",
                owner=f"(n * 7919) % {PROJECTS}",
            ),
            n=waiting,
            spec=SPEC,
        )
        lab.run(
            """
            insert into workers (name, pool, device, memory_bytes)
            select 'w' || n, 'train', 'cpu', (1 + n) * 2::bigint ^ 30 from generate_series(1, :n) n
            """,
            n=WORKERS,
        )
        lab.run("insert into usage (project_id, seconds) select id, random() * 1e5 from projects")
        lab.settle()
        began = time.perf_counter()
        with lab.sessions.begin() as session:
            standing.look(session, alive_s=ALIVE_S)
        looked = time.perf_counter() - began
        bench.watch.expect(decisions)
        seconds = [_decision(lab, 1 + turn % 2, bench) for turn in range(decisions)]
    note = f"median {1e3 * median(seconds):.1f} ms; to say of all where they stand takes {looked:.2f} s"
    return _p95("queue/dispatch-100k", seconds, target=30, note=note)


def _decision(lab: QueueLab, free: int, bench: Bench) -> float:
    """Seconds of one, after `free` of the running jobs have ended and those that were given away were claimed."""
    with lab.sessions.begin() as session:
        session.execute(
            text("""
                update jobs set state = 'failed', finished_at = now(), lease_expires_at = null
                where id in (select id from jobs where state = 'running' order by lease_expires_at limit :free)
            """),
            {"free": free},
        )
        session.execute(text("update jobs set state = 'running' where state = 'dispatched'"))
    with lab.sessions.begin() as session:
        began = time.perf_counter()
        dispatch(session, lease_s=3600, alive_s=ALIVE_S)
        took = time.perf_counter() - began
    bench.watch.stepped()
    return took


def list_1m(bench: Bench) -> Row:
    """Lists of jobs, a job's events and its curves, beside a million past jobs and ten million points."""
    past, curves = (5000, 20) if bench.tiny else (PAST, CURVES)
    requests = 3 if bench.tiny else bench.repetitions(REQUESTS)
    with queue_lab() as lab:
        bench.watch.expect(3 + len(SORTS) * requests)
        _fill(lab, bench, past, curves)
        found = {}
        with lab.api() as api:
            ids = _ids(lab, requests)
            for name, path in SORTS.items():
                found[name] = [_answer(api, path(ids[turn]), bench) for turn in range(requests)]
    worst = max(found, key=lambda name: _95(found[name]))
    note = ", ".join(f"{name} {1e3 * _95(seconds):.0f}" for name, seconds in found.items())
    return _p95("queue/list-1m", found[worst], target=80, note=f"p95 in ms: {note}")


Ids = Mapping[str, str]
SORTS: Mapping[str, Callable[[Ids], str]] = {
    "newest jobs": lambda _: "jobs",
    "a later page": lambda ids: f"jobs?cursor={ids['cursor']}",
    "failed jobs": lambda _: "jobs?state=failed",
    "rare jobs": lambda _: "jobs?kind=export-coders",
    "one's own": lambda _: "jobs?user=me",
    "a job": lambda ids: f"jobs/{ids['job']}",
    "events": lambda ids: f"jobs/{ids['job']}/events",
    "metrics": lambda ids: f"jobs/{ids['curve']}/metrics",
}
"""What is asked of the API, in turns of each sort, each for another job."""


def _fill(lab: QueueLab, bench: Bench, past: int, curves: int) -> None:
    """The first project has half of the jobs, and few of some kinds and states; the others share the rest."""
    lab.run(
        JOBS.format(
            kind="case when n % 99991 = 1 then 'export-coders' when n % 100 = 51 then 'train' else 'import-model' end",
            priority="0",
            state="case when n % 9973 = 1 then 'failed' else 'succeeded' end",
            needs="0",
            ended="now() - make_interval(secs => :n - n)",
            owner=f"case when n % 2 = 1 then 0 else n / 2 % {PROJECTS} end",
        ),
        n=past,
        spec=SPEC,
    )
    bench.watch.stepped()
    lab.run("""
        insert into events (project_id, job_id, seq, fence, type, data)
        select project_id, id, seq, 1, 'state', '{"state": "queued"}' from jobs, generate_series(1, 2) seq
    """)
    bench.watch.stepped()
    lab.run(
        """
        with first as (select id from projects order by id limit 1), job as (
            select jobs.project_id, jobs.id from jobs join first on first.id = jobs.project_id
            order by jobs.id desc limit :curves
        )
        insert into metrics (project_id, job_id, name, step, fence, value)
        select project_id, id, series, step, 1, random()
        from job cross join (values ('L00/fvu'), ('L00/l0')) curve (series) cross join generate_series(1, :steps) step
        """,
        curves=curves,
        steps=POINTS // 2,
    )
    lab.settle()
    bench.watch.stepped()


def _ids(lab: QueueLab, count: int) -> list[dict[str, str]]:
    """Jobs of the first project from everywhere in its past, and of those with curves; a cursor at each."""
    from clew_lab.catalogue.pages import encode_cursor

    mine = "project_id = (select id from projects order by id limit 1)"
    with lab.sessions() as session:
        jobs = session.scalars(text(f"select id from jobs where {mine} order by id desc")).all()  # noqa: S608
    picked = [jobs[len(jobs) * turn // count] for turn in range(count)]
    with_curves = jobs[: min(CURVES, len(jobs))]
    return [
        {
            "job": str(job),
            "cursor": encode_cursor(job),
            "curve": str(with_curves[len(with_curves) * turn // count]),
        }
        for turn, job in enumerate(picked)
    ]


def _answer(api: httpx2.Client, path: str, bench: Bench) -> float:
    began = time.perf_counter()
    api.get(path).raise_for_status()
    took = time.perf_counter() - began
    bench.watch.stepped()
    return took


def _95(seconds: list[float]) -> float:
    return quantiles(seconds, n=20, method="inclusive")[-1]


def _p95(name: str, seconds: list[float], *, target: float, note: str) -> Row:
    row = Row.of(name, 1e3 * _95(seconds), op="<=", target=target, unit="ms, p95", compare="ours", note=note)
    return row.model_copy(update={"n": len(seconds)})


def chaos(bench: Bench) -> Row:
    """`make chaos`: short jobs while processes and servers are killed, frozen and cut off."""
    jobs = 6 if bench.tiny else 200
    seconds = 15 if bench.tiny else 240
    command = [sys.executable, "-m", "tests.chaos.run", "--jobs", str(jobs), "--seconds", str(seconds)]
    run = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    *said, account = run.stdout.splitlines() or [""]
    words = account.split()
    if words[::2] != ["accepted", "terminal", "lost", "wrong", "duplicated"]:
        raise RuntimeError(f"it ended with code {run.returncode} and without an account:\n{run.stderr[-2000:]}")
    accepted, terminal, *bad = map(int, words[1::2])
    faults = next((line for line in said if line.startswith("faults: ")), "")
    return Row.of(
        "queue/chaos",
        sum(bad),
        op="<=",
        target=0,
        unit=f"of {accepted} accepted jobs",
        compare="ours",
        void=None if accepted == terminal == jobs and run.returncode == 0 else account,
        note=f"{account}; {faults}",
    )


MEASURES: Mapping[str, Callable[[Bench], Row]] = {
    "accept": accept,
    "claim": claim,
    "sweep-10k": sweep_10k,
    "dispatch-100k": dispatch_100k,
    "list-1m": list_1m,
    "artifact-1gb": artifact_1gb,
    "chaos": chaos,
}
