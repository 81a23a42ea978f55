"""The supervisor: claims jobs, has a runner do them, keeps their leases, uploads and registers what they make.

It imports no torch. `__main__` is the process; `task` one job; `attempt` its course; the rest are its parts.
"""
