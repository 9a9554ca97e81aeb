"""The synthetic H&E-like generator."""
