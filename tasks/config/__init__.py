"""Settings: read from `workflows.cfg` and the command line, checked fault by fault."""
