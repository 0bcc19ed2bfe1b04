"""Checks and repairs of stores that exist: audit, repair and checksums added later."""
