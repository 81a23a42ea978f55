"""Experiments on a real model, each a command that writes a page of `docs/`."""
