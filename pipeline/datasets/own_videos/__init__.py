"""Catalogs of a user's own videos: a folder, a list of addresses, or a table of intervals."""
