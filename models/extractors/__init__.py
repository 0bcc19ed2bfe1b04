"""Extractors: frozen networks that turn frames into features, one folder each."""
