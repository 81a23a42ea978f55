"""The records of Clew: jobs, catalogue, storage. SQLAlchemy and S3; no torch."""
