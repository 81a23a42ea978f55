"""Watch a job from its first event to its last: a progress bar, and the newest of its metrics."""
