"""The sub-commands of `clew`, one file each."""
