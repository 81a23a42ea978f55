"""The analyses of a lab, by name."""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Any

from clew_client.job import Job


class Circuits(ABC):
    """Each is a job, and takes what its spec has, by name."""

    @abstractmethod
    def submit(self, spec: Mapping[str, Any]) -> Job: ...

    def attribute(self, **fields: Any) -> Job:
        """A prompt's attribution graph: `name`, `coders`, `prompt`; see `AttributeSpec`."""
        return self.submit({"kind": "attribute", **fields})

    def steer(self, **fields: Any) -> Job:
        """A prompt with changed features: `coders` and `prompt`, or `graph`; `edits`; see `SteerSpec`."""
        return self.submit({"kind": "steer", **fields})

    def faithfulness(self, **fields: Any) -> Job:
        """Whether the model does what a `graph` says; see `FaithfulnessSpec`."""
        return self.submit({"kind": "faithfulness", **fields})

    def patch(self, **fields: Any) -> Job:
        """Activations of a `clean` prompt patched into a `corrupt` one, or the other way; see `PatchSpec`."""
        return self.submit({"kind": "patch", **fields})

    def edge(self, **fields: Any) -> Job:
        """An edge of a `graph`, from `source` to `target`, by head and position; see `EdgeSpec`."""
        return self.submit({"kind": "edge", **fields})

    def qk(self, **fields: Any) -> Job:
        """Why a `head` attends from `query` to `key` on the prompt of a `graph`, by pairs of nodes; see `QKSpec`."""
        return self.submit({"kind": "qk", **fields})

    def mean_edges(self, **fields: Any) -> Job:
        """The edges into a `feature` of a `layer` of `coders`, averaged over data; see `MeanEdgesSpec`."""
        return self.submit({"kind": "mean-edges", **fields})

    def connections(self, **fields: Any) -> Job:
        """What the weights alone connect to a feature: `coders`, `layer`, `feature`; see `ConnectionsSpec`."""
        return self.submit({"kind": "connections", **fields})

    def paths(self, **fields: Any) -> Job:
        """The strongest paths of a `graph`; see `PathsSpec`."""
        return self.submit({"kind": "paths", **fields})
