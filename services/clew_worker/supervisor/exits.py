"""Exit codes that tell the watch not to start a worker again."""

DRAINED = 10
"""It was asked to drain, and is idle now. Whoever starts it again wants it to work: it comes back undrained."""
NAME_TAKEN = 11
"""Another worker has the name: two of them would clear each other's folders and answer for each other."""
