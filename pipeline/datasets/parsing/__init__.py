"""Reading of annotation files that the dataset readers share."""
