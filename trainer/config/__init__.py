"""Recipes: TOML files bound to typed settings and optimizers."""
