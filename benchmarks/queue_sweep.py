"""The queue against what a researcher asks of it at once."""

import json
import time
from statistics import median

from benchmarks.bench import Bench
from benchmarks.queue_lab import queue_lab
from benchmarks.rows import Row

SWEPT = 10_000
_OWN = "select (select id from projects order by id limit 1), uuidv7(), 'project'"
_MODEL = f"""
    insert into models (project_id, job_id, visibility, name, digest, files, lineage, tokenizer_digest, proof, config)
    {_OWN}, 'm', '', '[]', '{{}}', 't', '{{}}', cast(:config as jsonb)
"""  # a fixed text
_DATASET = f"""
    insert into datasets (project_id, job_id, visibility, name, digest, files, lineage, tokenizer_digest, context, bos,
                          train_tokens, heldout_tokens, n_documents, source)
    {_OWN}, 'd', '', '[]', '{{}}', 't', 256, 'none', 1000000, 50000, 1000, '{{}}'
"""  # a fixed text
_CONFIG = {
    **{"architecture": "LlamaForCausalLM", "n_layers": 12, "d_model": 768, "d_mlp": 3072, "n_heads": 12},
    **{"n_kv_heads": 12, "vocab_size": 50_000, "max_context": 1024, "n_parameters": 124_000_000},
}


def sweep_10k(bench: Bench) -> Row:
    """Take in a sweep of 10,000 training jobs, each resolved, weighed and checked, until it is answered; cancel it."""
    steps, seeds = (10, 10) if bench.tiny else (100, SWEPT // 100)
    spec = {"kind": "train", "name": "t", "model": "m", "dataset": "d", "layers": [8]}
    grid = {"steps": [10 + step for step in range(steps)], "seed": list(range(seeds))}
    body = {"name": "bench", "spec": spec | {"steps": 10}, "grid": grid}
    with queue_lab() as lab:
        lab.run(_MODEL, config=json.dumps(_CONFIG))
        lab.run(_DATASET)
        repetitions = bench.repetitions(3)
        bench.watch.expect(repetitions)
        accepted, cancelled = [], []
        with lab.api() as api:
            for _ in range(repetitions):
                began = time.perf_counter()
                made = api.post("sweeps", json=body).raise_for_status().json()
                accepted.append(time.perf_counter() - began)
                began = time.perf_counter()
                api.post(f"batches/{made['id']}/cancel").raise_for_status()
                cancelled.append(time.perf_counter() - began)
                bench.watch.stepped()
    note = f"cancelling takes {median(cancelled):.1f} s"
    return Row.of("queue/sweep-10k", accepted, op="<=", target=10, unit="s", compare="ours", note=note)
