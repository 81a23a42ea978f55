"""Clew held against other projects, side by side on one machine: `make bench`."""
