"""Applying a trained model: sampling blocks, stitching them to one verified image."""
