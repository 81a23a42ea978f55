"""Coders: sparse, readable stand-ins for a layer's MLP."""

from clew.coders.activations import activate
from clew.coders.coder import Coder
from clew.coders.reconstruction import Reconstruction, require_whole
from clew.coders.store import load_coder, save_coder

__all__ = ["Coder", "Reconstruction", "activate", "load_coder", "require_whole", "save_coder"]
