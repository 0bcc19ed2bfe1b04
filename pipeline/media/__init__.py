"""Media files: their container, their streams, their clock, and what is missing of them."""
