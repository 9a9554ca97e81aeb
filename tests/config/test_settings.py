import dataclasses
import json
import re

import pytest

from hf_gland.config import (
    ConfigError,
    Parser,
    TrainConfig,
    add_settings,
    all_settings,
    config_from_arguments,
    make_config,
    read_config_file,
    read_saved_config,
    recipe_names,
)
from hf_gland.method.schedules import planned_refreshes

SETTINGS = all_settings()


def parse(*arguments, config_file=None):
    parser = Parser()
    add_settings(parser)
    return config_from_arguments(parser.parse_args([str(a) for a in arguments]), config_file)


def value_of(config, name):
    """The value of a setting by its short name, read where it stands."""
    for part in SETTINGS[name].path:
        config = getattr(config, part)
    return config


def other_value(name):
    """A valid value of a setting that is not its default."""
    default, choices = SETTINGS[name].default, SETTINGS[name].about["choices"]
    if choices:
        return next(c for c in choices if c != default)
    if isinstance(default, bool):
        return not default
    special = {"threshold_start": 0.93, "threshold_end": 0.55, "model_kwargs": '{"depths": [1]}', "scale_max": 1.5,
               "refresh_growth": 2.0, "refresh_views": 2}
    if name in special:
        return special[name]
    if isinstance(default, str):
        return f"some-{name}"
    return default + 64 if isinstance(default, int) else default / 2 + 0.01


# What must be set for another setting to have an effect, where the defaults do not.
NEEDED = {"refresh": {"threshold": "cosine"}, "threshold_start": {"threshold": "cosine"},
          "threshold_end": {"threshold": "cosine"}, "adapt_split": {"adapt_dataset": "theirs"}, "missing_mpp": {"mpp": 0.5},
          "assumed_weight": {"warmup_background": "assume"}, "assumed_weight_end": {"warmup_background": "assume"}}


@pytest.mark.parametrize("name", SETTINGS)
def test_every_setting_can_be_given_on_the_command_line_in_a_file_and_read_back(name, tmp_path):
    value, needed, place = other_value(name), NEEDED.get(name, {}), ".".join(SETTINGS[name].path)
    assert value_of(TrainConfig(), name) != value
    others = [w for k, v in needed.items() for w in (f"--{k}", v)]
    for spelling in {name, name.replace("_", "-"), place, place.replace("_", "-")}:
        arguments = [f"--{'' if value else 'no-'}{spelling}"] if isinstance(value, bool) else [f"--{spelling}", value]
        assert value_of(parse(*arguments, *others), name) == value
    config = make_config({name: value, **needed})
    assert value_of(config, name) == value
    assert make_config({place: value, **needed}) == config
    *sections, leaf = SETTINGS[name].path
    (tmp_path / "mine.toml").write_text("".join(f"{k} = {json.dumps(v)}\n" for k, v in needed.items())
                                        + f"[{'.'.join(sections)}]\n{leaf} = {json.dumps(value)}\n")
    assert make_config(read_config_file(tmp_path / "mine.toml")) == config
    (tmp_path / "training_config.json").write_text(config.to_json())
    assert read_saved_config(tmp_path) == config
    changed = {k for k, v in config.by_short_name().items() if v != TrainConfig().by_short_name()[k]}
    assert changed == {name, *needed}


@pytest.mark.parametrize("name", SETTINGS)
def test_every_setting_is_explained_with_its_range_and_default(name):
    parser = Parser()
    add_settings(parser)
    explained = " ".join(parser.format_help().split())  # formatting also fails on a stray % sign
    text = re.split(rf" --{name.replace('_', '-')}[ ,]", explained[explained.index("options:"):])[1].partition("]")[0]
    assert len(text.split()) > 3
    assert text.endswith(f"{SETTINGS[name].default}")
    assert SETTINGS[name].range in text


def test_help_is_by_section():
    parser = Parser()
    add_settings(parser)
    explained = parser.format_help()
    for section in ("data", "model", "method", "method.threshold", "method.refresh", "optim", "augment", "run"):
        assert f"settings [{section}]:\n" in explained
    assert "0.5 to 1; 0.9]" in " ".join(explained.split())


def test_short_names_are_unique():
    assert len({".".join(s.path) for s in SETTINGS.values()}) == len(SETTINGS) > 55


def test_what_runs_saved_before_there_were_sections_is_read(tmp_path):
    saved = {"dataset": "glas", "mpp": 1.24, "threshold": "cosine", "threshold_start": 0.95, "threshold_end": 0.6,
             "ema": False, "ema_start": 0.9, "refreshes": 3, "balance": "none", "warmup_background": "assume",
             "assumed_weight": 0.2, "mode": "sparse-only", "mixed_precision": "bf16"}
    (tmp_path / "training_config.json").write_text(json.dumps(saved))
    config = read_saved_config(tmp_path)
    assert {name: value_of(config, name) for name in saved} == saved
    assert config.method.threshold.start == 0.95
    assert config.method.class_weighting == "none"
    assert config.optim.steps == 600


@pytest.mark.parametrize(("settings", "idle", "reason"), [
    ({"threshold_start": 0.9}, "threshold_start", "threshold cosine or linear"),
    ({"threshold": "cosine", "adaptive_share_start": 0.3}, "adaptive_share_start", "threshold adaptive"),
    ({"threshold": "cosine", "progressive": False, "threshold_end": 0.7}, "threshold_end", "progressive on"),
    ({"confidence_filter": False, "threshold": "linear"}, "threshold", "confidence_filter on"),
    ({"ema": False, "ema_start": 0.9}, "ema_start", "ema on"),
    ({"assumed_weight": 0.3}, "assumed_weight", "warmup_background assume"),
    ({"mode": "full", "warmup_background": "assume"}, "warmup_background", "mode refined or sparse-only"),
    ({"refresh": "every_step", "threshold": "cosine", "refreshes": 5}, "refreshes", "refresh bank"),
    ({"progressive": False, "refresh_growth": 2.0, "refresh_views": 2}, "refresh_growth", "progressive on"),
    ({"loss": "joint", "pseudo_weight": 0.5}, "pseudo_weight", "loss separate or consistency"),
    ({"fusion": False, "veto": True}, "veto", "fusion on"),
    ({"mode": "sparse-only", "refreshes": 2}, "refreshes", "mode refined"),
    ({"mode": "sparse-only", "warmup_fraction": 0.5}, "warmup_fraction", "mode refined, or warmup_background assume"),
    ({"mode": "full", "loss": "joint"}, "loss", "mode refined"),
    ({"adapt_split": "train"}, "adapt_split", "adapt_dataset set"),
    ({"missing_mpp": 0.5}, "missing_mpp", "mpp set"),
    ({"validation_split": "", "validate_every": 10}, "validate_every", "validation_split set"),
])
def test_a_setting_that_can_have_no_effect_is_an_error_that_says_why(settings, idle, reason):
    with pytest.raises(ConfigError, match=f"{idle} has no effect here: it applies only with .*{reason}"):
        make_config(settings)


def test_only_what_is_given_beside_it_makes_a_setting_a_mistake(tmp_path):
    """Defaults and recipes may well be overruled."""
    assert parse("--mode", "full", config_file="demo").method.threshold.start == 0.95
    assert parse("--threshold", "adaptive", config_file="demo").method.threshold.kind == "adaptive"
    assert parse("--mode", "sparse-only", "--warmup_background", "assume", "--warmup_fraction", 0.1).method.veto
    assert parse("--threshold", "cosine", "--no-progressive", "--threshold_start", 0.7).method.threshold.start == 0.7
    with pytest.raises(ConfigError, match="threshold_start has no effect"):
        parse("--threshold", "adaptive", "--threshold_start", 0.9, config_file="demo")
    file = tmp_path / "training_config.json"  # what a run saved says everything, that without effect too
    file.write_text(make_config({"ema": False, "mode": "full"}).to_json())
    assert parse("--steps", 5, config_file=str(file)).optim.steps == 5
    with pytest.raises(ConfigError, match="ema_end has no effect"):
        parse("--ema_end", 0.9, config_file=str(file))


def test_a_setting_given_twice_in_one_file_is_an_error():
    with pytest.raises(ConfigError, match="threshold_start is given twice"):
        make_config({"threshold_start": 0.9, "method": {"threshold": {"start": 0.8, "kind": "cosine"}}})


def test_the_command_line_wins_over_the_file_and_the_file_over_the_defaults(tmp_path):
    file = tmp_path / "mine.toml"
    file.write_text("steps = 7\nbatch_size = 2\nlearning_rate = 1\n")
    config = parse("--steps", 9, config_file=str(file))
    assert (config.optim.steps, config.optim.batch_size, config.optim.learning_rate) == (9, 2, 1.0)
    assert config.augment == TrainConfig().augment
    assert parse() == TrainConfig()


@pytest.mark.parametrize("name", recipe_names())
def test_the_recipes_that_ship_are_valid_and_carry_their_reason(name):
    config = make_config(read_config_file(name))
    assert config.optim.steps > 0
    assert not config.data.dataset  # given by the user
    assert 0 < config.run.save_every <= 250  # what a kill may cost
    assert parse("--seed", 3, config_file=name) == config.changed(seed=3)


def test_there_is_a_recipe_for_the_tables():
    assert "bench" in recipe_names()


@pytest.mark.parametrize(("key", "suggestion"), [("step", "steps"), ("threshold_strat", "threshold_start"),
                                                 ("method.threshold.strat", "method.threshold.start"),
                                                 ("confidence-filtre", "confidence_filter"),
                                                 ("method.balance", "method.class_weighting"),
                                                 ("method.threshold_end", "method.threshold.end")])
def test_an_unknown_setting_is_an_error_that_suggests_the_nearest(key, suggestion):
    with pytest.raises(ConfigError, match=f"unknown setting '{key.replace('-', '_')}'; did you mean '{suggestion}'"):
        make_config({key: 1})


def test_a_share_that_is_to_grow_does_not_shrink():
    with pytest.raises(ConfigError, match=r"adaptive_share_start must not be above adaptive_share_end; got 0\.95 and 0\.9"):
        make_config({"adaptive_share_start": 0.95})
    make_config({"adaptive_share_start": 0.95, "progressive": False})  # which has no end


def test_a_number_that_no_float_holds_is_an_error_in_a_line():
    with pytest.raises(ConfigError, match="learning_rate must be a finite number; got one of 401 digits"):
        make_config({"learning_rate": 10**400})


def test_the_largest_numbers_of_the_schedule_of_refreshes_are_computed():
    config = make_config({"refreshes": 500, "refresh_growth": 4, "steps": 600})
    assert planned_refreshes(config)[0] == 150


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
    ("refresh_views", 0), ("refresh_views", 5),
    ("mpp", -1.0), ("seed", -1), ("warmup_fraction", 1.1), ("warmup_fraction", -0.1), ("threshold_end", 0.49),
    ("threshold_start", 1.1), ("threshold_start", 0.55), ("ema_start", 1.5), ("adaptive_share_end", 2.0),
    ("refresh_growth", 0.9), ("scale_min", 0.0), ("scale_min", 2.0), ("learning_rate", 0.0), ("head_lr_factor", 0.0),
    ("mode", "half"), ("threshold", "cosin"), ("refresh", "never"), ("loss", "both"), ("warmup_background", "some"),
    ("mixed_precision", "fp8"), ("stain_jitter", -0.1), ("num_workers", -2), ("model_kwargs", "{"),
    ("model_kwargs", "[1]"), ("learning_rate", float("nan")), ("pseudo_weight", float("nan")),
    ("max_grad_norm", float("inf")), ("scale_max", float("inf")), ("threshold_end", float("nan")),
])
def test_a_value_out_of_range_is_an_error_that_names_the_setting(key, value):
    with pytest.raises(ConfigError, match=key):
        make_config({key: value}, {"threshold": "cosine"} if "threshold_" in key else {})


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
        config.optim.steps = 3
    assert json.loads(config.to_json()) == dataclasses.asdict(config)
    assert json.loads(config.to_json())["data"]["mpp"] == 1.0


def test_model_overrides():
    assert TrainConfig().model_overrides() == {}
    assert make_config({"model_kwargs": '{"depths": [1, 1]}'}).model_overrides() == {"depths": [1, 1]}
