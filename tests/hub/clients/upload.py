"""Make the Space REPO and put a file named PATH into it, by no means of this package."""

import sys

from huggingface_hub import HfApi

repo, path = sys.argv[1:]
HfApi().create_repo(repo, repo_type="space", space_sdk="static")
HfApi().upload_file(path_or_fileobj=b"of somebody else", path_in_repo=path, repo_id=repo, repo_type="space")
