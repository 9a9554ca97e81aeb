"""Gland segmentation from a few outlined glands per image."""

__version__ = "0.1.0"
