"""What every part of the store shares: errors, records, paths, fingerprints and the status of a
video.
"""
