"""Networks: frozen feature extractors and highlight models, in PyTorch."""
