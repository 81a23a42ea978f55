"""The flags of `clew submit` and what their help says."""

from typing import Any

from clew_client.flags import arguments, flags_of
from clew_spec.training import TrainSpec


def test_a_flag_that_shows_a_default_has_it_in_a_spec_of_which_nothing_was_asked() -> None:
    """And one of a spec that is not there then shows none."""
    spec = TrainSpec(name="n", model="m", dataset="d", layers=[0], steps=5)
    words = arguments(spec)
    given: dict[str, str] = dict(zip(words[::2], words[1::2], strict=False))
    shown = {flag.option: flag.default for flag in flags_of(TrainSpec) if flag.default is not None}
    assert shown["--coder.activation.kind"] == spec.coder.activation.kind
    assert not [option for option in shown if option.startswith("--coder.loss.auxk")]
    for option, default in shown.items():
        value: Any = spec
        for name in option[2:].replace("-", "_").split("."):
            value = getattr(value, name)
        assert default == (",".join(map(str, value)) if isinstance(value, list) else str(value)), option
    assert given["--name"] == "n"
