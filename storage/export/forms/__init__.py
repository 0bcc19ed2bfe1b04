"""Forms of export: how rows are written for other programs, and read back plainly."""
