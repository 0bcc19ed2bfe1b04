"""Media files: probing, digests, records, and cutting of highlight reels."""
