"""The method variants that ship: what each changes, and what a run is called."""

import json
from pathlib import Path

import pytest

from hf_gland.config import ConfigError, Parser, add_settings, all_variants, config_from_arguments, make_config

ROOT = Path(__file__).parents[2]


def started(*arguments, config="bench"):
    """The settings of `train.py --config CONFIG ARGUMENTS`."""
    parser = Parser()
    add_settings(parser)
    return config_from_arguments(parser.parse_args([str(a) for a in arguments]), config)


def test_variants_differ_from_ours_in_what_they_are_named_for():
    settings = {name: dict(v.settings) for name, v in all_variants().items()}
    assert settings["ours"] == {}
    assert settings["no-ema"] == {"ema": False}
    assert settings["no-filter"] == {"confidence_filter": False}
    assert settings["no-progression"] == {"progressive": False}
    assert settings["no-fusion"] == {"fusion": False}
    assert settings["no-veto"] == {"veto": False}
    assert settings["joint-loss"] == {"loss": "joint"}
    assert settings["naive"] == {"loss": "joint", "threshold": "cosine", "threshold_start": 0.95, "threshold_end": 0.6,
                                 "balance": "none", "veto": False}
    for mode in ("sparse-only", "full"):
        assert settings[mode] == {"mode": mode}


def test_published_figures_that_variants_name_are_there():
    published = {r["name"] for r in json.loads((ROOT / "hub_cards" / "references.json").read_text())}
    assert {v.paper for v in all_variants().values()} - {""} <= published
    assert all_variants()["no-ema"].paper.endswith("no EMA")


@pytest.mark.parametrize("recipe", ["bench", "demo", "full", "gpu"])
@pytest.mark.parametrize("name", [n for n, v in all_variants().items() if not v.weights_of and not v.needs])
def test_every_variant_applies_to_every_recipe_and_names_the_run(name, recipe):
    config = started("--variant", name, "--dataset", "data", "--seed", 3, "--num_workers", 2, config=recipe)
    assert config.variant == name
    assert {key: config.by_short_name()[key] for key in all_variants()[name].settings} == all_variants()[name].settings


@pytest.mark.parametrize(("arguments", "name"), [
    ((), "ours"), (("--seed", 4, "--backbone", "other", "--save_every", 7), "ours"),
    (("--no-veto",), "no-veto"), (("--mode", "full"), "full"), (("--loss", "joint"), "joint-loss"),
    (("--loss", "joint", "--threshold", "cosine", "--threshold_start", 0.95, "--threshold_end", 0.6, "--balance", "none",
      "--no-veto"), "naive"),
    (("--cutmix", 0.25), "ours+cutmix=0.25"), (("--no-veto", "--no-ema"), "ours+no-ema+no-veto"),
    (("--steps", 50), "ours+steps=50"), (("--variant", "naive", "--veto"), "naive+veto"),
    (("--variant", "full", "--crop_px", 128), "full+crop_px=128"),
    (("--adapt_dataset", "theirs"), "adapted"), (("--variant", "adapted", "--adapt_dataset", "theirs"), "adapted"),
    (("--variant", "cam", "--dataset", "maps"), "cam"),
])
def test_a_run_started_by_hand_is_called_after_what_it_changes(arguments, name):
    """A record is named after it, so two methods must never share a name."""
    assert started(*arguments).variant == name


def test_a_file_of_the_users_does_not_make_another_method_ours(tmp_path):
    (tmp_path / "mine.toml").write_text('mode = "sparse-only"\nsteps = 30\n')
    assert started(config=str(tmp_path / "mine.toml")).variant == "sparse-only"
    assert make_config({"loss": "joint"}).variant == "joint-loss"
    assert make_config({}).variant == "ours"


def test_many_changes_make_a_short_name_that_still_tells_runs_apart():
    many = ["--dice_weight", 0.5, "--pseudo_weight", 0.25, "--pseudo_ramp", 0.1, "--weight_decay", 0.02, "--cutmix", 0.1]
    one, other = started(*many).variant, started(*many[:-1], 0.2).variant
    assert one.startswith("ours+5-changes-")
    assert one != other
    assert len(one) < 40
    assert started(*many).variant == one


def test_an_unknown_variant_and_one_that_lacks_what_it_needs_are_refused():
    with pytest.raises(ConfigError, match=r"'naif'; there are .*naive"):
        started("--variant", "naif")
    with pytest.raises(ConfigError, match="joined"):
        started("--variant", "joined")
    with pytest.raises(ConfigError, match="adapted needs --adapt_dataset"):
        started("--variant", "adapted")


@pytest.mark.parametrize(("text", "words"), [
    ('title = "x"\nplace = 1\ngroups = ["shedules"]', "no table is called shedules"),
    ('title = "x"\ngroups = ["main"]', "place"), ("title = ", "new.toml"),
    ('title = "x"\nplace = 1\ngroups = ["main"]\n[settings]\nwarmup = 1', "warmup")])
def test_a_mistake_in_a_variants_file_is_said_with_its_name(text, words, monkeypatch, tmp_path):
    (tmp_path / "variants").mkdir()
    (tmp_path / "variants" / "new.toml").write_text(text)
    monkeypatch.setattr("hf_gland.config.variants.resources.files", lambda _: tmp_path)
    all_variants.cache_clear()
    try:
        with pytest.raises(ConfigError, match=rf"new\.toml.*{words}|{words}"):
            all_variants()
    finally:
        all_variants.cache_clear()


def test_every_variant_has_a_place_of_its_own():
    places = [variant.place for variant in all_variants().values()]
    assert len(set(places)) == len(places)
