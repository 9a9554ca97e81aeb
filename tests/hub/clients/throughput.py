"""Crops per second of a run's data, from the first request to the last crop: local Parquet against streaming, in turns.

usage: throughput.py FOLDER REPO ROUNDS STEPS        (without the network's forward and backward passes, which are the same)

Prints, for each, the crops per second of every round, and the checksums of the crops' pixels and labels.
"""

import json
import sys
import tempfile
import time
import zlib
from pathlib import Path

from datasets import load_dataset

from hf_gland.config.sections import Augment
from hf_gland.data.loading import CropDataset, ShardedDraws, crop_loader
from hf_gland.data.store import build_store

BATCH = 4


def crops_per_second(source: str, steps: int) -> tuple[float, int]:
    with tempfile.TemporaryDirectory() as folder:
        started = time.perf_counter()
        rows = load_dataset(source, split="train", streaming=True)
        store = build_store(rows, Path(folder), 2, None, None)
        crops = CropDataset(store, Augment(cutmix=0.0), 0)
        seen, checksum = 0, 0
        for batch in crop_loader(crops, ShardedDraws(0, len(store), BATCH, steps), 0, False):
            seen += len(batch["index"])
            for planes in (batch["strong"], batch["sparse"]):
                checksum = zlib.adler32(planes.numpy(), checksum)
        return seen / (time.perf_counter() - started), checksum


folder, repo, rounds, steps = sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4])
sources = {"local": folder, "streamed": repo}
crops_per_second(folder, 2)  # what is done but once: imports, and the local rows' way into the cache of `datasets`
rates: dict[str, list[float]] = {name: [] for name in sources}
checksums: dict[str, list[int]] = {name: [] for name in sources}
for turn in range(rounds):
    for name in sorted(sources, reverse=turn % 2 == 1):
        rate, checksum = crops_per_second(sources[name], steps)
        rates[name].append(rate)
        checksums[name].append(checksum)
print(json.dumps({"rates": rates, "checksums": checksums}))
