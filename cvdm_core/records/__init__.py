"""Receipts and hashes: what was read, what was written, with which settings, versions and machine."""
