"""Questions asked before and after a run: doctor, verify, forecast, benchmarks and the
self-test.
"""
