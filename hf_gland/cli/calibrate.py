"""Make a model's confidence mean what it says, by temperature scaling on held-out patients (Guo et al., ICML 2017).

  python scripts/calibrate.py runs/glas/model data/glas-20                  the validation split's sparse labels
  python scripts/calibrate.py runs/glas/model data/glas-20 --labels dense   its dense masks, where there are some

Fits one number T, so that softmax(logits / T) matches how often the model is right, and writes it into the model's
config.json as confidence_temperature: GlandSegmenter, predict.py and the web demo then use it. No label changes.
The patients of the split must not have been trained on.
"""

import argparse
from pathlib import Path


def build_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", type=Path, help="model folder, such as RUN/model; its config.json is changed")
    parser.add_argument("dataset", help="dataset folder or Hub id")
    parser.add_argument("--split", default="validation", help="split of held-out patients [validation]")
    parser.add_argument("--labels", choices=("sparse", "dense"), default="sparse",
                        help="which masks to compare with [sparse]")
    parser.add_argument("--device", help="such as cpu or cuda:0 (default: a GPU if there is one)")
    return parser


def run(arguments: argparse.Namespace) -> None:
    from hf_gland.cli.evaluate import say_assumption, trained_on
    from hf_gland.data.training_data import open_dataset, pick_split
    from hf_gland.evaluation.fitted_temperature import temperature_of_rows, write_temperature
    from hf_gland.evaluation.split import EvaluationError, training_notes
    from hf_gland.inference.segmenter import GlandSegmenter
    from hf_gland.model.cpu import make_fast
    from hf_gland.model.identity import check_class_names

    make_fast()
    settings, notes = training_notes(arguments.model)
    if arguments.split == settings["train_split"]:
        raise EvaluationError(f"{arguments.model} was trained on split '{arguments.split}', on which it is surer than "
                              "it should be; give --split with patients that were held out")
    splits, provenance = open_dataset(arguments.dataset)
    rows = pick_split(splits, arguments.split, arguments.dataset)
    segmenter = GlandSegmenter.from_pretrained(arguments.model, device=arguments.device)
    check_class_names(segmenter.class_names, provenance["class_names"], f"{arguments.model} on {arguments.dataset}")
    say_assumption(segmenter, rows, arguments.split)
    trained_on(notes, rows, arguments.split)
    mask = "sparse_mask" if arguments.labels == "sparse" else "mask"
    temperature, images = temperature_of_rows(segmenter, rows, mask=mask)
    write_temperature(arguments.model, temperature)
    print(f"{arguments.model}/config.json: confidence_temperature {temperature:.3f}, from {images} images of "
          f"'{arguments.split}' ({arguments.labels} labels)")
