"""What a worker counts, for Prometheus."""

from prometheus_client import Counter, Gauge, Histogram

BUSY = Gauge("clew_worker_busy", "Whether it has a job.")
ATTEMPT_S = Histogram(
    "clew_worker_attempt_seconds",
    "From claim to end.",
    ["kind"],
    buckets=(0.5, 1, 2.5, 5, 10, 30, 60, 300, 1800, 7200, 28800, 86400),
)
LEASES_LOST = Counter("clew_worker_leases_lost_total", "Jobs that were another's before they ended here.")
BEATS_MISSED = Counter(
    "clew_worker_beats_missed_total", "Beats, of the worker or of its job, that Postgres did not take."
)
