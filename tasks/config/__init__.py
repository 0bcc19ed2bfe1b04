"""Settings: read from `workflows.cfg` and the command line, checked, and reported fault by
fault.
"""
