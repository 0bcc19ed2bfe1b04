"""The weights folder: download, conversion in a sandbox, and import."""
