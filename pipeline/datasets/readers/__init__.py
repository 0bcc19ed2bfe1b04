"""One reader for each published dataset: annotation files in, catalog records out."""
