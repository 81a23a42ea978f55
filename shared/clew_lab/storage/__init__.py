"""Files of the lab: write-once objects in an S3 bucket."""

from clew_lab.storage.keys import attempt_prefix, checked_name, object_key, upload_prefix
from clew_lab.storage.multipart import Multipart
from clew_lab.storage.store import PRESIGNED, Store, Stored

__all__ = ["PRESIGNED", "Multipart", "Store", "Stored", "attempt_prefix", "checked_name", "object_key", "upload_prefix"]
