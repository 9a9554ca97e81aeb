from segmenters import dark_is_gland, model_folder  # noqa: F401
