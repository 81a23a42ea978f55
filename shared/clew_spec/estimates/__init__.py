"""What a job will take, before it is submitted: memory, disk and work, from the spec's arithmetic."""

from clew_spec.estimates.jobs import decisive, estimate, smaller
from clew_spec.estimates.report import DatasetFacts, Disk, Estimate, Facts, GraphFacts, Memory, Part, TimeRange

__all__ = [
    "DatasetFacts",
    "Disk",
    "Estimate",
    "Facts",
    "GraphFacts",
    "Memory",
    "Part",
    "TimeRange",
    "decisive",
    "estimate",
    "smaller",
]
