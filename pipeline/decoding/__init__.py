"""Decoding of one video: from a file to frames with their times."""
