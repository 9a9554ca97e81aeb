"""From layers of settings to a TrainConfig."""

from collections.abc import Mapping
from typing import Any

from hf_gland.config.errors import ConfigError
from hf_gland.config.settings import TrainConfig, all_settings, build, by_short_name
from hf_gland.config.variants import variant_name

BEFORE = {"border_px": 0.0}  # settings that runs of before did not write down, and what they did


def make_config(*layers: Mapping[str, Any], saved: Mapping[str, Any] | None = None, variant: str = "") -> TrainConfig:
    """A TrainConfig from settings as `by_short_name` takes them; later layers win over earlier ones.

    `saved`: what a run wrote down, which is every setting, below the layers. `variant`: what the run is called ("": after
    what sets it apart from the defaults). Raises ConfigError for what `by_short_name` or the ranges refuse, and for a
    setting of a layer that has no effect beside the others of its own layer and of those before it. (That a later layer
    leaves an earlier one's setting without effect is no mistake: `--mode full` makes a recipe's threshold idle.)
    """
    defaults = {name: s.default for name, s in all_settings().items()}
    values = defaults | (by_short_name(BEFORE | dict(saved)) if saved else {})
    for layer in layers:
        given = by_short_name(layer)
        values |= given
        for name in given:
            if reason := all_settings()[name].why_idle(values):
                raise ConfigError(f"{name} has no effect here: {reason}. Leave it out, or change that")
    return build(values, variant or variant_name(values, defaults))
