"""The runner: the only process that imports torch. It has no database, no queue and no S3 credentials.

`clew_spec.runner` states the protocol it speaks with its supervisor.
"""
