"""What every source must say of itself; a new one is found without being named anywhere."""

import argparse
import sys
import types

import numpy as np
import pytest

from hf_gland.cli.build_dataset import build_parser
from hf_gland.cli.main import run_command
from hf_gland.data import sources
from hf_gland.data.build import load_local
from hf_gland.data.sample import Sample
from hf_gland.data.source import Item, Offer, Source
from hf_gland.data.sources import all_sources, source_of


def test_each_source_is_complete():
    found = {source.name: source for source in all_sources()}
    assert {"folder", "glas", "synthetic"} <= set(found)
    for source in found.values():
        assert source.summary
        assert source.held_out < 0.5
        assert source.title == "" or source_of(source.title.upper()) is source
        assert source.shareable is not None or not source.title  # a user's own images depend on the user's own licence
        assert source.bibtex == "" or source.bibtex.startswith("@")
        source.add_options(argparse.ArgumentParser())
    assert found["glas"].shareable is False
    assert source_of("my slides") is None
    assert source_of("") is None


def test_a_new_source_is_one_module(tmp_path, monkeypatch):
    def read(items):
        for item in items:
            mask = np.zeros((30, 40), np.uint8)
            mask[5:20, 5:25] = 1
            image = np.full((30, 40, 3), item.files, np.uint8)
            yield Sample(image, mask, None, item.image_id, item.patient_id, "toy"), None

    def offer(arguments):
        return Offer({"train": [Item(f"t{i}", f"p{i}", files=i) for i in range(arguments.count)]}, read, "Toy", "mit",
                     record={"count": arguments.count})

    toy = Source("toy", "Toy", "two squares", lambda parser: parser.add_argument("--count", type=int, default=6), offer,
                 shareable=True, held_out=0.3)
    monkeypatch.setitem(sys.modules, "hf_gland.data.sources.toy", types.SimpleNamespace(SOURCE=toy))
    modules = [*sources.pkgutil.iter_modules(sources.__path__), types.SimpleNamespace(name="toy")]
    monkeypatch.setattr(sources, "pkgutil", types.SimpleNamespace(iter_modules=lambda path: modules))
    assert source_of("toy") is toy
    assert run_command("build_dataset", ["toy", "--count", "7", "--style", "full", "--out", str(tmp_path / "toy")]) == 0
    rows = load_local(tmp_path / "toy")
    assert {split: len(part) for split, part in rows.items()} == {"train": 5, "validation": 2}
    assert rows["train"][0]["image"].getpixel((0, 0))[0] == int(rows["train"][0]["image_id"][1:])
    with pytest.raises(SystemExit):
        build_parser().parse_args(["toy", "--out", "x", "--style", "as-is"])
