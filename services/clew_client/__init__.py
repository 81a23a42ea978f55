"""Clew from Python: `Lab` speaks to the REST API; `clew` on the command line is built on it.

lab = Lab()                                   # $CLEW_URL and $CLEW_KEY, or what `clew login` stored
job = lab.submit({"kind": "train", ...})
job.wait(check=True)
lab.sweep(job.view.spec, {"optimizer.lr": [1e-3, 1e-4]}).wait()
"""

from clew_client.batches import Batch
from clew_client.errors import CorruptDownload, JobFailed
from clew_client.lab import Job, Lab
from clew_client.transport import Retry

__all__ = ["Batch", "CorruptDownload", "Job", "JobFailed", "Lab", "Retry"]
