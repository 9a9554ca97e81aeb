"""Publish a dataset, a model, the metric or the web demo on the Hugging Face Hub, each as one commit.

  python scripts/publish.py dataset glands-20=data/glas-20 points=data/glas-points --repo me/glas-sparse --masks-only
  python scripts/publish.py model runs/first --repo me/glands --tag v1
  python scripts/publish.py metric --repo me/gland_segmentation
  python scripts/publish.py space --repo me/gland-demo --model-repo me/glands
  python scripts/publish.py join --from me/glas-sparse --config glands-20 --archive ARCHIVE.zip --out data/glas-20

--dry-run OUT writes the repository into a folder instead, without the Hub. Publishing again what is there already
changes nothing; a publication that was cut short is completed by running it again. The token is that of
`hf auth login`, or HF_TOKEN.
"""

import argparse
import json
import sys
from pathlib import Path

from hf_gland.evaluation.records import ResultRecord, read_result, read_results
from hf_gland.hub.errors import HubError
from hf_gland.hub.repository import Publishing, RepoType, check_place, explained, publish_folder
from hf_gland.hub.staging import staging_folder
from hf_gland.shipped import shipped

# What only one command needs is imported there: torch and evaluate take seconds, and a missing token is said at once.

CARDS = shipped("hub_cards")
RESULTS = CARDS / "results"
REPO_TYPES: dict[str, RepoType] = {"dataset": "dataset", "model": "model", "metric": "space", "space": "space"}


INTERRUPTED = "stopped; the same command, run again, completes what was begun"


def build_parser() -> argparse.ArgumentParser:
    top = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = top.add_subparsers(dest="command", required=True)
    common = argparse.ArgumentParser(add_help=False)
    common.add_argument("--repo", required=True, metavar="OWNER/NAME", help="repository, made where it does not exist")
    common.add_argument("--private", action="store_true", help="make it private")
    common.add_argument("--revision", default="main", metavar="BRANCH", help="branch to publish to [%(default)s]")
    common.add_argument("--tag", default="", help="name for the result, such as v1; tags do not move")
    common.add_argument("--message", default="", help="commit message")
    common.add_argument("--overwrite", action="store_true", help="replace what else the repository holds")
    common.add_argument("--dry-run", type=Path, metavar="OUT", help="write the repository into this folder; needs no Hub")

    dataset = commands.add_parser("dataset", parents=[common], help="datasets that build_dataset wrote, as configurations")
    dataset.add_argument("datasets", nargs="+", metavar="[NAME=]DIR", help="the first is the default configuration")
    dataset.add_argument("--masks-only", action="store_true",
                         help="annotations, splits and checksums, without the images (GlaS)")
    dataset.add_argument("--i-have-the-right", action="store_true",
                         help="publish images although their licence does not let everyone do so")

    model = commands.add_parser("model", parents=[common], help="a trained model with its measured results")
    model.add_argument("model", type=Path, metavar="RUN", help="folder of a finished training")
    model.add_argument("--results", type=Path, nargs="+", default=[], metavar="FILE_OR_FOLDER",
                       help="its result records [those in RUN/*/ and in hub_cards/results]")
    model.add_argument("--comparison", type=Path, default=RESULTS, metavar="FOLDER",
                       help="records of other ways of training, for a table [hub_cards/results]")
    model.add_argument("--base-model", default="", metavar="OWNER/NAME", help="Hub model behind a local backbone folder")
    model.add_argument("--licence", default="", help="of the weights, where it does not follow from weights and data")
    model.add_argument("--dataset-repo", default="", metavar="OWNER/NAME", help="where the dataset is published")
    model.add_argument("--metric-repo", default="", metavar="OWNER/NAME", help="where the metric is published")

    metric = commands.add_parser("metric", parents=[common], help="the metric, for evaluate.load")
    space = commands.add_parser("space", parents=[common], help="the web demo")
    space.add_argument("--app", type=Path, default=shipped("space_app"), help="its folder [space_app]")
    space.add_argument("--model-repo", default="", metavar="OWNER/NAME", help="the model that it shows")
    for parser in (metric, space):
        parser.add_argument("--results", type=Path, nargs="+", default=[], metavar="FILE",
                            help="result records to show on the card")

    join = commands.add_parser("join", help="join a dataset that was published --masks-only with the official archive")
    join.add_argument("--from", required=True, dest="source", metavar="REPO_OR_FOLDER", help="the published dataset")
    join.add_argument("--config", default="", help="its configuration [the default one]")
    join.add_argument("--revision", default="main", help="branch, tag or commit [%(default)s]")
    join.add_argument("--archive", type=Path, required=True, help="official GlaS archive, zip or extracted")
    join.add_argument("--out", type=Path, required=True, help="dataset folder to write")
    join.add_argument("--no-verify", action="store_true", help="do not compare the archive with the official checksums")
    return top


def stage(arguments: argparse.Namespace, out: Path) -> None:
    """Put the repository together in `out`."""
    if arguments.command == "dataset":
        from hf_gland.hub.dataset_repo import stage_dataset
        from hf_gland.hub.dataset_source import read_configurations

        stage_dataset(read_configurations(arguments.datasets), out, arguments.repo, templates=CARDS,
                      masks_only=arguments.masks_only, have_the_right=arguments.i_have_the_right)
    elif arguments.command == "model":
        from hf_gland.hub.cards import Links
        from hf_gland.hub.model_repo import stage_model
        from hf_gland.hub.model_source import read_model

        stage_model(read_model(arguments.model, arguments.results, RESULTS), out, arguments.repo, templates=CARDS,
                    links=Links(arguments.base_model, arguments.dataset_repo, arguments.metric_repo),
                    licence=arguments.licence, comparison=read_results(arguments.comparison))
    elif arguments.command == "metric":
        from hf_gland.hub.metric_repo import stage_metric

        stage_metric(out, arguments.repo, templates=CARDS, records=records(arguments))
    else:
        from hf_gland.hub.space_repo import stage_space

        stage_space(arguments.app, out, arguments.repo, templates=CARDS, model_repo=arguments.model_repo,
                    records=records(arguments))


def records(arguments: argparse.Namespace) -> list[ResultRecord]:
    return [read_result(path) for path in arguments.results]


def join(arguments: argparse.Namespace) -> None:
    import datasets
    from huggingface_hub import hf_hub_download
    from huggingface_hub.errors import RemoteEntryNotFoundError
    from tqdm import tqdm

    from hf_gland.data.join import MASKS_ONLY, join_archive
    from hf_gland.hub.dataset_source import DEFAULT_CONFIG

    source, config = arguments.source, arguments.config
    path = f"{config}/provenance.json" if config and config != DEFAULT_CONFIG else "provenance.json"
    why = f"no configuration is named '{config}'" if config else "it was not published by scripts/publish.py"
    absent = f"{source}: has no {path}: {why}; look at its card"
    revision = None if Path(source).is_dir() else arguments.revision
    with explained(source, "dataset", arguments.revision):
        if revision is None:
            file = Path(source, path)
        else:
            try:
                file = Path(hf_hub_download(source, path, repo_type="dataset", revision=revision))
            except RemoteEntryNotFoundError as error:
                raise HubError(absent) from error
        if not file.is_file():
            raise HubError(absent)
        provenance = json.loads(file.read_text("utf-8"))
        if provenance.get("form") != MASKS_ONLY:
            raise HubError(f"{source}: holds its images already, there is nothing to join; train with --dataset {source}")
        masks = datasets.load_dataset(source, config or None, revision=revision)
    with tqdm(total=sum(map(len, masks.values())), desc="joining", unit="image", disable=None) as bar:
        join_archive(masks, provenance, arguments.archive, arguments.out, verify=not arguments.no_verify,
                     progress=lambda _: bar.update())
    print(f"written to {arguments.out}")


def run(arguments: argparse.Namespace) -> None:
    if arguments.command == "join":
        join(arguments)
        return
    if arguments.dry_run is None:
        check_place(arguments.repo, REPO_TYPES[arguments.command], arguments.revision, arguments.tag)
    with staging_folder(arguments.dry_run) as folder:
        print(f"checking the {arguments.command} and putting its repository together …", file=sys.stderr)
        stage(arguments, folder)
        if arguments.dry_run is None:
            files = [p for p in folder.rglob("*") if p.is_file()]
            megabytes = sum(p.stat().st_size for p in files) / 1e6
            print(f"comparing with {arguments.repo} and sending what differs of {len(files)} files "
                  f"({megabytes:.2f} MB) …", file=sys.stderr)
            done = publish_folder(folder, arguments.repo, REPO_TYPES[arguments.command], Publishing(
                arguments.message or f"Publish the {arguments.command}", arguments.revision, arguments.tag,
                arguments.private, arguments.overwrite, {"metric": "static", "space": "gradio"}.get(arguments.command)))
            if done.removed:
                rest = f" and {len(done.removed) - 10} more" if len(done.removed) > 10 else ""
                print(f"removed, as they are no part of this publication: {', '.join(done.removed[:10])}{rest}")
            print(f"{'published' if done.changed else 'already there, nothing changed'}: {done.url}")
    if arguments.dry_run is not None:
        print(f"written to {arguments.dry_run}; nothing was sent")
