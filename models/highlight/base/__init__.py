"""Layers and contracts that several highlight models share."""
