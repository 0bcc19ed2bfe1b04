"""Diagnostics: doctor, verify, forecast, benchmarks and the start-up self-test."""
