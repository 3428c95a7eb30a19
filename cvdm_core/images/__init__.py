"""Images as files and arrays: TIFF, OME-Zarr, tiles, intensities, optics. Knows nothing of the model."""
