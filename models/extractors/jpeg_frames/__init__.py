"""The extractor `frames`: sampled frames stored as JPEG."""
