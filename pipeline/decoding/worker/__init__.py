"""Decoding in a subprocess, so that a crash or a hang costs one video."""
