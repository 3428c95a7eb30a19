"""From files of a microscope to registered, ingested acquisitions."""
