"""Where images and masks come from, one module per source."""
