"""What examples are made of: stored features, frames and intervals."""
