"""`python -m clew_client` is `clew`."""

from clew_client.cli import main

main()
