"""Trained models applied to videos: scores, predictions and distinction maps."""
