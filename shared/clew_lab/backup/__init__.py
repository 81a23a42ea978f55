"""A whole lab in one folder, and back: `python -m clew_lab.backup create|restore FOLDER`."""

from clew_lab.backup.create import create
from clew_lab.backup.manifest import Manifest
from clew_lab.backup.restore import Restored, restore

__all__ = ["Manifest", "Restored", "create", "restore"]
