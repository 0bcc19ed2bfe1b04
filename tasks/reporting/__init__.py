"""What a run reports at its end: results, times, data quality and availability."""
