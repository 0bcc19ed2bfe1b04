"""Exports: features of a store written in the forms that other programs read."""
