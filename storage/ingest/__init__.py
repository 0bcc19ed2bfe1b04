"""Imports: features that others published become a variant of a store."""
