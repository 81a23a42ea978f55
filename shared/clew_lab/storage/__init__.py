"""Files of the lab: write-once objects in an S3 bucket."""

from clew_lab.storage.keys import attempt_prefix, checked_name, object_key
from clew_lab.storage.store import PRESIGNED, Store, Stored

__all__ = ["PRESIGNED", "Store", "Stored", "attempt_prefix", "checked_name", "object_key"]
