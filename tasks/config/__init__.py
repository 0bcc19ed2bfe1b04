"""How settings are read from `workflows.cfg` and the command line, and what is wrong with them in words."""
