"""Compute with metrics where `hf_gland` cannot be imported; prints what each gives as one line of JSON.

usage: standalone_metric.py INPUTS METRIC...        (INPUTS: a JSON file of what `compute` is given)
"""

import json
import sys
from pathlib import Path

import evaluate

for name in [name for name in sys.modules if name.partition(".")[0] == "hf_gland"]:
    sys.modules[name] = None
sys.modules["hf_gland"] = None
inputs = json.loads(Path(sys.argv[1]).read_text())
print(json.dumps([evaluate.load(place).compute(**inputs) for place in sys.argv[2:]]))
