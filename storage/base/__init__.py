"""What all of the store shares: errors, records, paths, fingerprints and video status."""
