"""Files over HTTP, bounded in time, size and memory."""
