"""Crops per second of a run's data, from the first request to the last crop: local Parquet against streaming, in turns.

usage: throughput.py FOLDER REPO ROUNDS STEPS        (without the network's forward and backward passes, which are the same)
"""

import json
import sys
import tempfile
import time
from pathlib import Path

from hf_gland.data.loading import CropDataset, ShardedDraws, crop_loader
from hf_gland.data.store import build_store
from hf_gland.data.training_data import open_dataset, pick_split

BATCH = 4


def crops_per_second(source: str, steps: int) -> float:
    with tempfile.TemporaryDirectory() as folder:
        started = time.perf_counter()
        splits, provenance = open_dataset(source, streaming=True)
        store = build_store(pick_split(splits, "train", source), Path(folder), len(provenance["class_names"]), None, None,
                            progress=False)
        crops = CropDataset(store, seed=0, crop_px=256, scale_min=0.75, scale_max=1.33, stain_jitter=0.15,
                            brightness_jitter=0.15, blur_px=1.0)
        seen = sum(len(batch["index"]) for batch in crop_loader(crops, ShardedDraws(0, len(store), BATCH, steps), 0, False))
        return seen / (time.perf_counter() - started)


folder, repo, rounds, steps = sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4])
crops_per_second(folder, 2)  # what is done but once: imports, and the local rows' way into the cache of `datasets`
measured: dict[str, list[float]] = {"local": [], "streamed": []}
for _ in range(rounds):
    measured["local"].append(crops_per_second(folder, steps))
    measured["streamed"].append(crops_per_second(repo, steps))
print(json.dumps(measured))
