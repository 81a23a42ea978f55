"""What can be asked of Clew, and in what shape it answers. Depends on pydantic alone."""
