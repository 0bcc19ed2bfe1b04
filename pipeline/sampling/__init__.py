"""Which frames make a row, and which span of seconds the row describes."""
