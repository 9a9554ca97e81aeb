"""A run that streams its rows from the Hub is not slower, over its length, than one that reads them from local Parquet."""

import statistics

import pytest

from hf_gland.data.build import annotated, build_dataset
from hf_gland.data.sparsify import SparsifyConfig
from hf_gland.data.synthetic import iter_synthetic


@pytest.mark.slow
def test_streaming_reaches_nine_tenths_of_the_local_throughput(hub, client, tmp_path):
    config = SparsifyConfig()
    build_dataset({"train": annotated(iter_synthetic("train"), config, 0)}, tmp_path / "data", annotation=config, seed=0,
                  class_names=("background", "gland"), source="synthetic", licence="cc0-1.0")
    assert client.publish("dataset", tmp_path / "data", "--repo", "me/synthetic").status == 0
    measured = client.run("throughput.py", tmp_path / "data", "me/synthetic", 3, 600).result
    medians = {name: statistics.median(values) for name, values in measured.items()}
    print(f"crops per second: {measured}, streamed / local {medians['streamed'] / medians['local']:.3f}")
    assert medians["streamed"] >= 0.9 * medians["local"]
