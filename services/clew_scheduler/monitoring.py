"""What a scheduler counts, for Prometheus."""

from prometheus_client import Counter, Gauge, Histogram

TURN_S = Histogram("clew_scheduler_turn_seconds", "Time of one turn: take back, hand out, ring.")
LAST_TURN = Gauge("clew_scheduler_last_turn_timestamp_seconds", "When the last turn ended.")
DISPATCHED = Counter("clew_jobs_dispatched_total", "Jobs given out; one that is given out again counts again.")
NOT_RUNG = Counter("clew_bells_not_rung_total", "Bells that Redis did not take.")
LAPSED = Counter("clew_leases_lapsed_total", "Leases that lapsed: bells nobody answered, and workers that fell silent.")
DATABASE_LOST = Counter("clew_scheduler_database_lost_total", "Turns that Postgres did not answer.")
