"""Pages that a biologist can read."""
