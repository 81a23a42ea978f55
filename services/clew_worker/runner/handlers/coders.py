"""The coders a job was given, by layer."""

from clew.coders import Coder, load_coder
from clew_spec.base import Spec
from clew_spec.errors import InvalidSpec
from clew_worker.runner.work import Work


def load_coders(work: Work[Spec]) -> dict[int, Coder]:
    """`stored_coders`, on the job's device and in its dtype."""
    return {layer: coder.to(work.job.device, work.dtype) for layer, coder in stored_coders(work).items()}


def stored_coders(work: Work[Spec]) -> dict[int, Coder]:
    """One coder a layer. Raises InvalidSpec where two claim the same layer."""
    coders: dict[int, Coder] = {}
    for record in work.coder_records:
        layer = int(record["layer"])
        if layer in coders:
            raise InvalidSpec(f"two coders for layer {layer}", where="/spec/coders", expected="one coder a layer")
        folder = (work.inputs / record["files"][0]).parent  # `coders/L03`, or `coders/L03.k16` of one among several
        coders[layer] = load_coder(folder)
    return coders
