"""Fitting a model to pairs of input and target."""
