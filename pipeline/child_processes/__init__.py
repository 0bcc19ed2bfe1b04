"""Child processes: limits, sandbox, hang detection and exit status."""
