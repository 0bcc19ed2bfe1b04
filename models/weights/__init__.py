"""Weight files: registered downloads, safe loading, and mapping of names to our networks."""
