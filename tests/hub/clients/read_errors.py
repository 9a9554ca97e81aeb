"""The messages for data that are not on the Hub as asked for, as one line of JSON.

usage: read_errors.py '{"name": [REPO, CONFIG, REVISION], …}' [MODEL REVISION]
"""

import json
import sys

from hf_gland.data.training_data import open_dataset
from hf_gland.errors import DatasetError
from hf_gland.inference import GlandSegmenter, ModelError

messages = {}
for name, arguments in json.loads(sys.argv[1]).items():
    try:
        open_dataset(*arguments)
    except DatasetError as error:
        messages[name] = str(error)
if len(sys.argv) > 2:
    try:
        GlandSegmenter.from_pretrained(sys.argv[2], revision=sys.argv[3])
    except ModelError as error:
        messages["model"] = str(error)
print(json.dumps(messages))
