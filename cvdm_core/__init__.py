"""Restoration of microscope acquisitions with conditional variational diffusion models.

The package never imports Snakemake, and importing it costs nothing: each room imports what it needs when it is used.
"""

__version__ = "0.1.0"
