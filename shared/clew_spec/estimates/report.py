"""What an estimate is made from, and what it says."""

from pydantic import Field

from clew_spec.base import Spec
from clew_spec.coders import CoderConfig
from clew_spec.results import ModelConfig


class DatasetFacts(Spec):
    context: int
    train_tokens: int
    heldout_tokens: int


class GraphFacts(Spec):
    tokens: int
    nodes: int
    edges: int
    rows: int
    """Nodes whose incoming edges it has."""
    targets: int
    """Of these, logits."""


class Facts(Spec):
    """What the catalogue knows of the things a spec refers to; what it does not refer to is left out."""

    model: ModelConfig | None = None
    dataset: DatasetFacts | None = None
    coders: list[CoderConfig] = []
    graph: GraphFacts | None = None
    prompt_tokens: int | None = None
    """Of an analysis of a prompt, its first token included."""
    device: str = "cuda"
    """Of the worker: `cuda` takes more at once than `cpu`, so it is what an unknown one is taken for."""


class Part(Spec):
    name: str
    bytes: int
    field: str
    """JSON pointer to the field of the request that changes it most."""


class Memory(Spec):
    """What the runner holds at its fullest moment, on its device, or in the machine where it has none."""

    moment: str
    parts: list[Part]

    @property
    def bytes(self) -> int:
        return sum(part.bytes for part in self.parts)

    @property
    def largest(self) -> Part:
        """Of what the request decides."""
        return max((part for part in self.parts if part.field), key=lambda part: part.bytes)


class Disk(Spec):
    published_bytes: int
    """Artifacts that a success leaves in the store."""
    checkpoint_bytes: int
    """In the store while it runs: the registered checkpoint, and the one that replaces it."""
    worker_bytes: int
    """On the worker while it runs: fetched inputs, checkpoints on their way out, results."""

    @property
    def bytes(self) -> int:
        return self.published_bytes + self.checkpoint_bytes + self.worker_bytes


class TimeRange(Spec):
    low: float
    high: float
    """Seconds, at the speed of the fastest and of the slowest finished job that it is judged by."""
    jobs: int
    """How many those are: of one, both ends are the same."""


class Estimate(Spec):
    """From arithmetic alone. What cannot be said honestly is null, and `unknown` says why."""

    memory: Memory | None = None
    memory_bytes: int | None = None
    """The sum of its parts. Never too low, as far as the arithmetic knows the code; up to 1.6 times too high, of
    analyses of circuits 2 times, and 3 times where a graph is yet to be made, whose edges are only bounded."""
    disk: Disk | None = None
    disk_bytes: int | None = None
    flops: float | None = None
    """Multiplications and additions; every slot that a token has for active features counted, whether used or not."""
    tokens: int | None = None
    """What the model reads, text that is read again counted again."""
    time_s: TimeRange | None = None
    """Of the whole attempt, inputs in the worker's cache."""
    unknown: dict[str, str] = Field(default={}, description="by field of this estimate, why it is null")

    @classmethod
    def of(
        cls,
        *,
        memory: Memory | None = None,
        disk: Disk | None = None,
        flops: float | None = None,
        tokens: int | None = None,
        unknown: dict[str, str] | None = None,
    ) -> "Estimate":
        return cls(
            memory=memory,
            memory_bytes=memory.bytes if memory else None,
            disk=disk,
            disk_bytes=disk.bytes if disk else None,
            flops=flops,
            tokens=tokens,
            unknown=unknown or {},
        )

    @property
    def published_bytes(self) -> int:
        """0 where it is not known."""
        return self.disk.published_bytes if self.disk else 0

    def timed(self, speeds: list[float]) -> "Estimate":
        """With `time_s` judged by `speeds`: FLOP/s that finished jobs of this kind reached by the same arithmetic."""
        if not self.flops or not speeds:
            return self.model_copy(update={"unknown": self.unknown | {"time_s": NO_SPEED}})
        time = TimeRange(low=self.flops / max(speeds), high=self.flops / min(speeds), jobs=len(speeds))
        return self.model_copy(update={"time_s": time})


NO_SPEED = "no job of this kind has finished with this model on these workers"
