"""What a scheduler counts, for Prometheus. Its loops are `dispatch`, `release`, `standing` and `retention`."""

from prometheus_client import Counter, Gauge, Histogram

TURN_S = Histogram("clew_scheduler_turn_seconds", "Time of one turn: take back, hand out, ring.")
LAST_TURN = Gauge(
    "clew_scheduler_last_turn_timestamp_seconds", "When the last turn of each loop ended well, or it began.", ["loop"]
)
FAILED_TURNS = Counter("clew_scheduler_failed_turns_total", "Turns of each loop that did not end well.", ["loop"])
DISPATCHED = Counter(
    "clew_jobs_dispatched_total", "Jobs given out; one that is given out again counts again.", ["pool"]
)
NOT_RUNG = Counter("clew_bells_not_rung_total", "Bells that Redis did not take.")
LAPSED = Counter("clew_leases_lapsed_total", "Leases that lapsed: bells nobody answered, and workers that fell silent.")
RELEASES_PUT_OFF = Counter(
    "clew_releases_put_off_total", "Jobs that could not be queued yet when their inputs were there."
)
