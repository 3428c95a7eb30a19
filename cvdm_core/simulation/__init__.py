"""Raw acquisitions of simulated specimens, from a physical model of microscope and camera."""
