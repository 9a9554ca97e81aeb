import argparse
import dataclasses
import json
import re

import pytest

from hf_gland.config import (
    ConfigError,
    TrainConfig,
    add_settings,
    config_from_arguments,
    make_config,
    read_config_file,
    recipe_names,
)
from hf_gland.config.settings import setting_fields

FIELDS = {f.name: f for f in setting_fields()}


def parse(*arguments, config_file=None):
    parser = argparse.ArgumentParser()
    add_settings(parser)
    return config_from_arguments(parser.parse_args([str(a) for a in arguments]), config_file)


def other_value(name):
    """A valid value of a setting that is not its default."""
    default, choices = FIELDS[name].default, FIELDS[name].metadata["choices"]
    if choices:
        return next(c for c in choices if c != default)
    if isinstance(default, bool):
        return not default
    special = {"threshold_start": 0.93, "threshold_end": 0.55, "model_kwargs": '{"depths": [1]}', "scale_max": 1.5,
               "refresh_growth": 2.0}
    if name in special:
        return special[name]
    if isinstance(default, str):
        return f"some-{name}"
    return default + 64 if isinstance(default, int) else default / 2 + 0.01


@pytest.mark.parametrize("name", FIELDS)
def test_every_setting_can_be_given_on_the_command_line_in_a_file_and_read_back(name, tmp_path):
    value = other_value(name)
    assert getattr(TrainConfig(), name) != value
    needed = {"threshold": "cosine"} if name == "refresh" else {}
    spellings = [name, name.replace("_", "-")]
    for spelling in spellings:
        arguments = [f"--{'' if value else 'no-'}{spelling}"] if isinstance(value, bool) else [f"--{spelling}", value]
        assert getattr(parse(*arguments, *(w for k, v in needed.items() for w in (f"--{k}", v))), name) == value
    saved = tmp_path / "config.json"
    saved.write_text(make_config({name: value, **needed}).to_json())
    assert make_config(read_config_file(saved)) == dataclasses.replace(TrainConfig(), **{name: value, **needed})


@pytest.mark.parametrize("name", FIELDS)
def test_every_setting_is_explained_with_its_default(name):
    parser = argparse.ArgumentParser()
    add_settings(parser)
    explained = " ".join(parser.format_help().split())  # formatting also fails on a stray % sign
    text = re.split(rf" --{name}[ ,]", explained[explained.index("options:"):])[1].partition("]")[0]
    assert len(text.split()) > 3
    assert text.endswith(f"[{FIELDS[name].default}")


def test_the_command_line_wins_over_the_file_and_the_file_over_the_defaults(tmp_path):
    file = tmp_path / "mine.toml"
    file.write_text("steps = 7\nbatch_size = 2\nlearning_rate = 1\n")
    config = parse("--steps", 9, config_file=str(file))
    assert (config.steps, config.batch_size, config.learning_rate) == (9, 2, 1.0)
    assert config.crop_px == TrainConfig().crop_px
    assert parse() == TrainConfig()


@pytest.mark.parametrize("name", recipe_names())
def test_the_recipes_that_ship_are_valid_and_carry_their_reason(name):
    config = make_config(read_config_file(name))
    assert config.steps > 0
    assert not config.dataset  # given by the user
    assert parse("--seed", 3, config_file=name) == dataclasses.replace(config, seed=3)


def test_there_is_a_recipe_for_the_tables():
    assert "bench" in recipe_names()


@pytest.mark.parametrize(("key", "suggestion"), [("step", "steps"), ("threshold_strat", "threshold_start"),
                                                 ("confidence-filter", "confidence_filter")])
def test_an_unknown_setting_is_an_error_that_suggests_the_nearest(key, suggestion):
    with pytest.raises(ConfigError, match=f"unknown setting '{key}'; did you mean '{suggestion}'"):
        make_config({key: 1})


def test_an_unknown_setting_like_no_other_points_to_help():
    with pytest.raises(ConfigError, match="'qqq'; see --help"):
        make_config({"qqq": 1})


@pytest.mark.parametrize(("key", "value"), [("steps", "many"), ("steps", 2.5), ("steps", True), ("ema", 1), ("mode", 3),
                                            ("learning_rate", "0.1"), ("learning_rate", True), ("steps", None)])
def test_a_value_of_the_wrong_type_is_an_error_that_names_setting_and_value(key, value):
    with pytest.raises(ConfigError, match=rf"{key} must be of type \w+; got .*{value}"):
        make_config({key: value})


@pytest.mark.parametrize(("key", "value"), [
    ("steps", 0), ("batch_size", 0), ("gradient_accumulation", 0), ("crop_px", 16), ("refreshes", 0), ("keep_last", 0),
    ("mpp", -1.0), ("seed", -1), ("warmup_fraction", 1.1), ("warmup_fraction", -0.1), ("threshold_end", 0.49),
    ("threshold_start", 1.1), ("threshold_start", 0.55), ("ema_start", 1.5), ("adaptive_share_end", 2.0),
    ("refresh_growth", 0.9), ("scale_min", 0.0), ("scale_min", 2.0), ("learning_rate", 0.0), ("head_lr_factor", 0.0),
    ("mode", "half"), ("threshold", "cosin"), ("refresh", "never"), ("loss", "both"), ("warmup_background", "some"),
    ("mixed_precision", "fp8"), ("stain_jitter", -0.1), ("num_workers", -1), ("model_kwargs", "{"),
    ("model_kwargs", "[1]"), ("learning_rate", float("nan")), ("pseudo_weight", float("nan")),
    ("max_grad_norm", float("inf")), ("scale_max", float("inf")), ("threshold_end", float("nan")),
])
def test_a_value_out_of_range_is_an_error_that_names_the_setting(key, value):
    with pytest.raises(ConfigError, match=key):
        make_config({key: value})


def test_settings_that_contradict_each_other_are_refused():
    """Per-class quantiles come from the bank; without one the threshold would silently be another."""
    with pytest.raises(ConfigError, match=r"adaptive.*bank"):
        make_config({"threshold": "adaptive", "refresh": "every_step"})


def test_files_that_cannot_be_read_are_errors_that_name_them(tmp_path):
    for name, content, reason in (("bad.toml", "steps = ", "not valid TOML"), ("bad.json", "{", "not valid JSON"),
                                  ("binary.toml", b"\xff\xfe", "not valid TOML"), ("list.json", "[1]", "list.json")):
        file = tmp_path / name
        file.write_bytes(content if isinstance(content, bytes) else content.encode())
        with pytest.raises(ConfigError, match=reason) as caught:
            make_config(read_config_file(file))
        assert name in str(caught.value)
    with pytest.raises(ConfigError, match=r"missing\.toml"):
        read_config_file(tmp_path / "missing.toml")
    with pytest.raises(ConfigError, match="bench"):
        read_config_file("bensh")


def test_settings_are_frozen_and_saved_as_plain_json():
    config = make_config({"dataset": "glas", "mpp": 1})
    with pytest.raises(dataclasses.FrozenInstanceError):
        config.steps = 3
    assert json.loads(config.to_json()) == dataclasses.asdict(config)
    assert json.loads(config.to_json())["mpp"] == 1.0


def test_model_overrides():
    assert TrainConfig().model_overrides() == {}
    assert make_config({"model_kwargs": '{"depths": [1, 1]}'}).model_overrides() == {"depths": [1, 1]}
