"""Metrics that the papers report, each as a function of arrays."""
