"""Language models: load them, know their anatomy, read their activations."""

from clew.models.activations import (
    MlpActivations,
    Place,
    Trace,
    hook_activations,
    logits_from,
    mlp_activations,
    resid_from,
    trace,
)
from clew.models.anatomy import Anatomy
from clew.models.importing import ImportedModel, import_model
from clew.models.model import Model, load_model, prepare_model
from clew.models.recording import Recording, record

__all__ = [
    "Anatomy",
    "ImportedModel",
    "MlpActivations",
    "Model",
    "Place",
    "Recording",
    "Trace",
    "hook_activations",
    "import_model",
    "load_model",
    "logits_from",
    "mlp_activations",
    "prepare_model",
    "record",
    "resid_from",
    "trace",
]
