"""Where images and masks come from, one module (or folder) per source, each defining `SOURCE`; none is listed elsewhere."""

import importlib
import pkgutil

from hf_gland.data.source import Source


def all_sources() -> list[Source]:
    """Every source, by name."""
    modules = [importlib.import_module(f"{__name__}.{module.name}") for module in pkgutil.iter_modules(__path__)]
    return sorted((module.SOURCE for module in modules), key=lambda source: source.name)


def source_of(title: str) -> Source | None:
    """The source of data that call themselves `title` in their provenance; None for a user's own."""
    return next((source for source in all_sources() if source.title and source.title.lower() == title.lower()), None)
