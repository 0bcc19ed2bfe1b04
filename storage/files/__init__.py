"""Single files: atomic writes, locks, checksums, append-only logs and HDF5."""
