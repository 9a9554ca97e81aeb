"""Whole slides: planned, read, put through a network and followed stripe by stripe, in memory that a stripe bounds."""
