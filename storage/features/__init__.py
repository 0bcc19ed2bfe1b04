"""Feature stores on disk: parts, their manifests, and how both are written and read."""
