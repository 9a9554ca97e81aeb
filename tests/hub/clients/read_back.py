"""Read everything that was published with the clients that users have; prints what came back as one line of JSON.

usage: read_back.py MODEL DATASET CONFIG METRIC [REVISION]
"""

import hashlib
import json
import os
import socket
import sys

import datasets.config
import evaluate
import huggingface_hub.constants
import numpy as np
import torch
from datasets import load_dataset
from transformers import AutoModelForSemanticSegmentation, pipeline

from hf_gland.data.digest import combined_digest, row_digest
from hf_gland.data.training_data import open_dataset
from hf_gland.inference import GlandSegmenter, Tiling

model, dataset, config, metric = sys.argv[1:5]
revision = sys.argv[5] if len(sys.argv) > 5 else None
offline = os.environ.get("HF_HUB_OFFLINE") == "1"
seen = {}


def refuse(_socket, address):
    raise AssertionError(f"the network is used: {address}")


if offline:  # as if it had been set before the imports, which have been done for all clients; and no way around it
    huggingface_hub.constants.HF_HUB_OFFLINE = datasets.config.HF_HUB_OFFLINE = True
    datasets.config.HF_DATASETS_OFFLINE = evaluate.config.HF_EVALUATE_OFFLINE = True
    socket.socket.connect = refuse


def dataset_digest(splits):
    """`data_sha256` of what was read."""
    return combined_digest(row_digest(split, row) for split, rows in splits.items() for row in rows)


splits = load_dataset(dataset, config)
seen["digest"] = dataset_digest(splits)
if not offline:  # nothing is kept of what is streamed
    seen["streamed_digest"] = dataset_digest(load_dataset(dataset, config, streaming=True))
seen["default_rows"] = {name: len(rows) for name, rows in open_dataset(dataset)[0].items()}
seen["provenance"] = open_dataset(dataset, config)[1]["configuration"]
image = splits["train"][0]["image"]

pixels = torch.linspace(-1, 1, 3 * 64 * 64).reshape(1, 3, 64, 64)
for name, options in (("teacher", {}), ("student", {"subfolder": "student"})):
    network = AutoModelForSemanticSegmentation.from_pretrained(model, revision=revision or "main", **options)
    with torch.no_grad():
        seen[name] = hashlib.sha256(network(pixel_values=pixels).logits.numpy().tobytes()).hexdigest()
seen["pipeline"] = [found["mask"].size == image.size for found in pipeline("image-segmentation", model)(image)]
segmenter = GlandSegmenter.from_pretrained(model, revision=revision)
seen["confidence"] = segmenter.predict(np.asarray(image), 0.5, Tiling(precision="float32")).confidence.sum().item()
seen["metric"] = evaluate.load(metric).compute(predictions=[[[0, 1]]], references=[[[0, 1]]], bootstrap=0)["mIoU"]
print(json.dumps(seen))
