"""snapshot_download REPO TYPE REVISION into a cache; prints the SHA-256 of every file as JSON."""

import hashlib
import json
import sys
from pathlib import Path

from huggingface_hub import snapshot_download

repo, kind, revision = sys.argv[1:]
folder = Path(snapshot_download(repo, repo_type=kind, revision=revision))
print(json.dumps({p.relative_to(folder).as_posix(): hashlib.sha256(p.read_bytes()).hexdigest()
                  for p in sorted(folder.rglob("*")) if p.is_file() and p.name != ".gitattributes"}))
