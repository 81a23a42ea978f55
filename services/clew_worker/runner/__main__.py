"""Serve jobs from stdin, one after another, until stdin ends or `--max-jobs` are done."""

import argparse
import os
import signal
import sys
import traceback
from pathlib import Path

from clew.files import is_full
from clew.reporting import StopRequested
from clew_spec.errors import ClewError, Problem, StorageFull
from clew_spec.runner import RunJob
from clew_worker.runner.channel import Inbox, Outbox

OUT_OF_MEMORY = "urn:clew:out-of-memory"


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m clew_worker.runner", description=__doc__)
    parser.add_argument("--max-jobs", type=int, default=None)
    arguments = parser.parse_args()
    inbox = Inbox(sys.stdin)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, lambda *_: inbox.terminate())
    served = 0
    while arguments.max_jobs is None or served < arguments.max_jobs:
        job = inbox.next_job()
        if job is None:
            break
        serve(job, inbox)
        served += 1


def serve(job: RunJob, inbox: Inbox) -> None:
    """Run one job; its last event is `done`, `failed` or `stopped`, whatever happens."""
    scratch = Path(job.scratch)
    report = Outbox(scratch, inbox)
    try:
        from clew_worker.runner.handlers import handle  # torch is loaded here, after the protocol stands

        report.done(handle(job, report))
    except StopRequested as stop:
        report.emit("stopped", step=stop.step)
    except ClewError as error:
        report.emit("failed", problem=error.problem().model_dump(mode="json"), retryable=error.status >= 500)
    except Exception as error:
        report.log(traceback.format_exc(), "error")
        problem = _unexpected(error)
        # The same job would need the same memory again.
        report.emit("failed", problem=problem.model_dump(mode="json"), retryable=problem.type != OUT_OF_MEMORY)
    finally:
        report.close()


def _unexpected(error: Exception) -> Problem:
    if is_full(error):
        return StorageFull(f"there was no room left on the worker's disk: {error}", hint="make room there").problem()
    memory = "out of memory" in str(error).lower() or isinstance(error, MemoryError)
    return Problem(
        type=OUT_OF_MEMORY if memory else "urn:clew:runner-error",
        title="The job ran out of memory" if memory else "The job failed unexpectedly",
        status=500,
        detail=f"{type(error).__name__}: {error}"[:2000],
        hint="use fewer tokens per step, fewer layers or narrower coders" if memory else "the log has the traceback",
    )


if __name__ == "__main__":
    os.environ |= {"TOKENIZERS_PARALLELISM": "false", "TQDM_DISABLE": "1"}
    main()
