"""The result tables of the five papers, reproduced row by row."""
