"""Published datasets, as their authors spell them: one dataset a file, one row a dataset in `table.py`.

To add one: write a file beside this one with a function that ends in a `Survey`, and add a row to `table.py`.
"""
