"""The messages for what is not on the Hub, as one line of JSON."""

import json

from hf_gland.data.errors import DatasetError
from hf_gland.data.training_data import open_dataset
from hf_gland.inference import GlandSegmenter, ModelError

messages = {}
for name, arguments in (("dataset_revision", ("me/readable", "", "v9")), ("dataset_config", ("me/readable", "many")),
                        ("dataset", ("me/nowhere",))):
    try:
        open_dataset(*arguments)
    except DatasetError as error:
        messages[name] = str(error)
try:
    GlandSegmenter.from_pretrained("me/weights", revision="v9")
except ModelError as error:
    messages["model_revision"] = str(error)
print(json.dumps(messages))
