"""Reading pictures and label maps, and resampling them: the only reader of data, inference and the web demo."""
