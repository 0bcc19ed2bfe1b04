"""Losses on sets of segments and on pairs of domains."""
