"""Files as such: their bytes, and how we know that these are still the ones that were written."""
