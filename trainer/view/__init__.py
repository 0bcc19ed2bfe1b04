"""A feature store in a browser: a local server, a page for each video, and single-file pages."""
