"""A store as tables in memory, for libraries that work on columns."""
