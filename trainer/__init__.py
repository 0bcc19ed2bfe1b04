"""Training and evaluation of highlight models on feature stores."""
