"""Measuring a model on a dataset, and the records and tables of the results."""
