"""A folder to a repository: one commit that makes the repository equal to the folder, or none if it is already.

`HfApi.upload_folder` may split a folder into several commits; `create_commit` does not, and skips unchanged files
just as well. A publication that was cut short is resumed by running it again: contents that were uploaded are kept
by the Hub under their checksum, and become part of the repository only with the commit.
"""

import hashlib
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import httpx2
from huggingface_hub import CommitOperationAdd, CommitOperationDelete, HfApi, RepoCard, constants, get_token
from huggingface_hub.errors import EntryNotFoundError, HfHubHTTPError, RepositoryNotFoundError, RevisionNotFoundError
from huggingface_hub.hf_api import RepoFile

from hf_gland.hub.errors import HubError, explain, no_token

OWN_TAG = "hf_gland"  # in the front matter of every card written by this package
METRIC_TAG = "metric"
GIT_NAME = r"(?!.*(\.\.|//|/\.|\./|\.lock$|[./]$))[A-Za-z0-9][\w./-]*"  # of a branch or tag; git allows some more
KEPT = {".gitattributes"}  # written by the Hub itself
RepoType = Literal["model", "dataset", "space"]
REPO_TYPES: tuple[RepoType, ...] = ("model", "dataset", "space")


@dataclass(frozen=True)
class Published:
    """Where it is: `url` of the commit's tree; `changed`: whether a commit was needed; `removed`: files that went."""

    url: str
    commit: str
    changed: bool
    removed: tuple[str, ...] = ()


@dataclass(frozen=True)
class Publishing:
    """How to publish: the branch `revision`, a `tag` for the commit ("": none), whether a new repository is `private`,
    whether to `overwrite` one that holds something else, and the kind of a Space."""

    message: str
    revision: str = "main"
    tag: str = ""
    private: bool = False
    overwrite: bool = False
    space_sdk: str | None = None


def publish_folder(folder: Path, repo: str, repo_type: RepoType, how: Publishing) -> Published:
    """Make a branch of `repo` equal to `folder` in one commit, and tag that commit.

    Makes the repository and the branch where they do not exist. A repository that holds something else is refused
    unless told to overwrite it. Raises HubError; until the commit nothing of the repository has changed.
    """
    revision, tag = how.revision, how.tag
    check_place(repo, repo_type, revision, tag)
    with explained(repo, repo_type, revision):
        api = HfApi()
        card = (folder / "README.md").read_text("utf-8")
        head = open_repository(api, repo, repo_type, card, private=how.private, revision=revision, overwrite=how.overwrite,
                               space_sdk=how.space_sdk)
        paths = sorted(p.relative_to(folder).as_posix() for p in folder.rglob("*") if p.is_file())
        gone = sorted(set(api.list_repo_files(repo, repo_type=repo_type, revision=head)) - set(paths) - KEPT)
        tagged = tag and _tagged_commit(api, repo, repo_type, tag)
        if tagged and (tagged != head or gone or _differs(api, repo, repo_type, head, folder, paths)):
            raise HubError(f"{repo}: tag '{tag}' already marks commit {tagged[:10]}, whose content differs from what is to "
                           "be published, and tags do not move; give another --tag")
        commit = send_commit(api, repo, repo_type, {path: folder / path for path in paths}, gone,
                             how.message, revision=revision, head=head)
        if tag and not tagged:
            api.create_tag(repo, tag=tag, repo_type=repo_type, revision=commit)
    prefix = "" if repo_type == "model" else f"{repo_type}s/"
    return Published(f"{constants.ENDPOINT}/{prefix}{repo}/tree/{commit}", commit, commit != head, tuple(gone))


@contextmanager
def explained(repo: str, repo_type: str, revision: str = "main") -> Iterator[None]:
    """Turn what a Hub client raises into a HubError."""
    try:
        yield
    except HubError:
        raise
    except (OSError, ValueError, RuntimeError, httpx2.HTTPError) as error:
        raise explain(error, repo, repo_type, revision) from error


def open_repository(api: HfApi, repo: str, repo_type: RepoType, card: str, *, private: bool, revision: str,
                    overwrite: bool, space_sdk: str | None = None) -> str:
    """The commit that branch `revision` is at, made together with the repository where need be. Raises HubError."""
    api.create_repo(repo, repo_type=repo_type, private=private or None, exist_ok=True, space_sdk=space_sdk)
    info = api.repo_info(repo, repo_type=repo_type)
    if private and not info.private:
        raise HubError(f"{repo}: exists and is public, but --private was asked for; make it private in its settings on "
                       f"{constants.ENDPOINT}, or give another --repo")
    if revision != "main":
        api.create_branch(repo, branch=revision, repo_type=repo_type, exist_ok=True)
        info = api.repo_info(repo, repo_type=repo_type, revision=revision)
    others = set(api.list_repo_files(repo, repo_type=repo_type, revision=info.sha)) - KEPT - {"README.md"}
    if others and not overwrite:
        _check_ours(api, repo, repo_type, info.sha, card)
    return str(info.sha)


def check_place(repo: str, repo_type: RepoType, revision: str = "main", tag: str = "") -> None:
    """Raise HubError where nothing could be published: no token, no valid names, or the name of something else.

    A model, say, is not started under the name of a dataset: links and commands would be mixed up.
    """
    if not re.fullmatch(r"[^/\s]+/[^/\s]+", repo):
        raise HubError(f"{repo}: a repository is named owner/name, such as your user name, '/' and "
                       f"'{repo.strip('/').split('/')[-1] or 'glands'}'")
    if re.fullmatch(r"[0-9a-f]{40}", revision):
        raise HubError(f"{revision}: is a commit; --revision names the branch to publish to, --tag the result")
    for option, name in (("revision", revision), ("tag", tag)):
        if not re.fullmatch(GIT_NAME, name) and (name or option == "revision"):
            raise HubError(f"--{option} '{name}': not a name that git knows; use letters, digits, '-', '_', '.' and '/', "
                           f"such as {'wider' if option == 'revision' else 'v1'}")
    if get_token() is None:
        raise no_token()
    api = HfApi()
    with explained(repo, repo_type, revision):
        if not exists(api, repo, repo_type):
            _check_no_namesake(api, repo, repo_type)


def _check_no_namesake(api: HfApi, repo: str, repo_type: RepoType) -> None:
    for other in REPO_TYPES:
        if other != repo_type and exists(api, repo, other):
            raise HubError(f"{repo}: is a {other} repository, and a {repo_type} is to be published; give another --repo. "
                           f"(If both should share the name, first run `hf repos create {repo} --type {repo_type}`)")


def exists(api: HfApi, repo: str, repo_type: RepoType) -> bool:
    try:
        api.repo_info(repo, repo_type=repo_type)
    except RevisionNotFoundError:
        return True  # an empty repository
    except RepositoryNotFoundError:
        return False
    return True


def _check_ours(api: HfApi, repo: str, repo_type: RepoType, revision: str | None, card: str) -> None:
    try:
        there = Path(api.hf_hub_download(repo, "README.md", repo_type=repo_type, revision=revision)).read_text("utf-8")
        tags = card_tags(there)
    except EntryNotFoundError:
        tags = set()
    if OWN_TAG not in tags:
        raise HubError(f"{repo}: the name is taken: this {repo_type} repository holds files that this package did not "
                       f"publish (its card lacks the tag {OWN_TAG}), and they would be replaced. Give another --repo, or "
                       "--overwrite to replace them")
    if (METRIC_TAG in tags) != (METRIC_TAG in card_tags(card)):
        kinds = ("metric", "web demo") if METRIC_TAG in tags else ("web demo", "metric")
        raise HubError(f"{repo}: the name is taken by a {kinds[0]}, and a {kinds[1]} is to be published; give another "
                       "--repo, or --overwrite to replace it")


def card_tags(text: str) -> set[str]:
    """Tags in a card's front matter; none where there is no readable one."""
    try:
        return set(RepoCard(text, ignore_metadata_errors=True).data.to_dict().get("tags") or ())
    except (ValueError, TypeError):
        return set()


def _tagged_commit(api: HfApi, repo: str, repo_type: RepoType, tag: str) -> str:
    """The commit that `tag` is on, "" where there is no such tag yet."""
    refs = api.list_repo_refs(repo, repo_type=repo_type)
    if any(branch.name == tag for branch in refs.branches):
        raise HubError(f"{repo}: '{tag}' is a branch; give another --tag")
    return next((t.target_commit for t in refs.tags if t.name == tag), "")


def _differs(api: HfApi, repo: str, repo_type: RepoType, revision: str, folder: Path, paths: list[str]) -> bool:
    """Whether any of `paths` is not in the repository as it is in `folder`."""
    there = {f.path: f for f in api.get_paths_info(repo, paths, repo_type=repo_type, revision=revision)
             if isinstance(f, RepoFile)}
    for path in paths:
        content = (folder / path).read_bytes()
        git_id = hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()
        file = there.get(path)
        if file is None or (file.lfs.sha256 != hashlib.sha256(content).hexdigest() if file.lfs else file.blob_id != git_id):
            return True
    return False


def send_commit(api: HfApi, repo: str, repo_type: RepoType, files: dict[str, Path], gone: list[str], message: str, *,
                revision: str, head: str) -> str:
    """Add `files` (path in the repository: local file) and delete `gone` in one commit; returns the commit's id.

    Unchanged files are left out, and where nothing has changed no commit is made. Fails if `revision` has moved
    away from `head`.
    """
    operations: list[Any] = [CommitOperationDelete(path) for path in gone]
    operations += [CommitOperationAdd(path, local) for path, local in files.items()]
    info = api.create_commit(repo, operations, commit_message=message, repo_type=repo_type, revision=revision,
                             parent_commit=head)
    return str(info.oid)


def is_transient(error: BaseException | None) -> bool:
    """Whether trying again may help: the connection failed, the Hub was busy, or somebody else committed meanwhile."""
    if isinstance(error, HfHubHTTPError):
        return error.response.status_code in (412, 429) or error.response.status_code >= 500
    if isinstance(error, RuntimeError) and error.__cause__ is not None:
        return is_transient(error.__cause__)  # "Error while uploading '…' to the Hub."
    return isinstance(error, httpx2.TransportError)


def is_conflict(error: BaseException | None) -> bool:
    """Whether the branch had moved on when the commit was to be made."""
    return isinstance(error, HfHubHTTPError) and error.response.status_code == 412
