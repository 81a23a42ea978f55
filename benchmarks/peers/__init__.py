"""Other projects, each driven by a script that runs in an environment of its own.

Nothing here may import Clew: these scripts run where it is not installed.
"""
