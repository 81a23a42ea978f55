"""The coders a job was given, by layer."""

from collections.abc import Callable

from clew.coders import Coder, load_coder
from clew_spec.base import Spec
from clew_spec.errors import InvalidSpec
from clew_worker.runner.warm import coder_folder, warm_coder
from clew_worker.runner.work import Record, Work


def load_coders(work: Work[Spec]) -> dict[int, Coder]:
    """On the job's device and in its dtype, shared with the jobs that follow: not to be changed.

    Raises InvalidSpec where two claim the same layer.
    """
    return _by_layer(work, lambda record: warm_coder(work, record))


def stored_coders(work: Work[Spec]) -> dict[int, Coder]:
    """As they are stored, and the job's own. Raises as above."""
    return _by_layer(work, lambda record: load_coder(coder_folder(work, record)))


def _by_layer(work: Work[Spec], load: Callable[[Record], Coder]) -> dict[int, Coder]:
    coders: dict[int, Coder] = {}
    for record in work.coder_records:
        layer = int(record["layer"])
        if layer in coders:
            raise InvalidSpec(f"two coders for layer {layer}", where="/spec/coders", expected="one coder a layer")
        coders[layer] = load(record)
    return coders
