"""Write coders in another project's format."""

from typing import Literal

from pydantic import Field

from clew_spec.base import Ref, Spec
from clew_spec.formats import ExportFormat


class ExportCodersSpec(Spec):
    kind: Literal["export-coders"] = "export-coders"
    coders: Ref
    """A set of coders by name or by the UUID of its job, or one coder by UUID."""
    format: ExportFormat
    model_name: str = Field(default="unknown", min_length=1, max_length=256)
    """What the other project loads the model by, such as a Hugging Face id; written down, not looked up."""
    dataset: Ref | None = None
    """Whose tokens thresholds are calibrated and measured on, where the format has no TopK; the coders' own dataset if
    not given."""
    tokens: int = Field(default=8192, ge=256)
    """Of the training split to calibrate on, and as many held-out ones to measure on; rounded up to whole rows."""
