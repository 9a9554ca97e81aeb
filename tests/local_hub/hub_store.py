"""What a Hub keeps: repositories with branches, tags and commits, and file contents by their SHA-256.

Everything is on disk, so a server that is killed and started again goes on where it was:

    FOLDER/repositories.json   every repository's branches, tags and commits
    FOLDER/blobs/<sha256>      file contents
"""

import hashlib
import json
import os
import threading
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

LARGE_SUFFIXES = (".safetensors", ".parquet", ".u8", ".bin", ".png", ".zip")
LARGE_BYTES = 10 * 2**20
ATTRIBUTES = "".join(f"*{suffix} filter=lfs diff=lfs merge=lfs -text\n" for suffix in LARGE_SUFFIXES).encode()


class HubError(Exception):
    """An answer other than success: HTTP status, the Hub's error code, message, and more fields of the body."""

    def __init__(self, status: int, message: str, code: str = "", **body: Any):
        super().__init__(message)
        self.status, self.message, self.code, self.body = status, message, code, body


def is_large(path: str, size: int) -> bool:
    """Whether the Hub keeps a file by LFS rather than in git; empty files never are."""
    return size > 0 and (path.endswith(LARGE_SUFFIXES) or size > LARGE_BYTES)


class Store:
    """Thread-safe; every change is written before the call returns."""

    def __init__(self, folder: Path):
        self.blobs = folder / "blobs"
        self.blobs.mkdir(parents=True, exist_ok=True)
        self._index, self._lock = folder / "repositories.json", threading.Lock()
        self.repositories: dict[str, dict[str, Any]] = (
            json.loads(self._index.read_text()) if self._index.exists() else {})

    def _save(self) -> None:
        part = self._index.with_suffix(".part")
        part.write_text(json.dumps(self.repositories))
        os.replace(part, self._index)

    def put_blob(self, content: bytes) -> dict[str, Any]:
        """Keep a content; returns the fields of a file in a commit."""
        sha256 = hashlib.sha256(content).hexdigest()
        part = self.blobs / f"{sha256}.{threading.get_ident()}.part"
        part.write_bytes(content)
        os.replace(part, self.blobs / sha256)
        return {"sha256": sha256, "size": len(content),
                "git": hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()}

    def create(self, key: str, private: bool) -> None:
        with self._lock:
            if key in self.repositories:
                kind = key.split("/")[0].removesuffix("s")
                raise HubError(409, f"You already created this {kind} repo")
            files = {".gitattributes": self.put_blob(ATTRIBUTES) | {"large": False}}
            self.repositories[key] = {"private": private, "branches": {}, "tags": {}, "commits": {}}
            self._commit(key, "main", "initial commit", files)

    def delete(self, key: str) -> None:
        with self._lock:
            self.get(key)
            del self.repositories[key]
            self._save()

    def get(self, key: str) -> dict[str, Any]:
        if key not in self.repositories:
            raise HubError(404, "Repository not found", "RepoNotFound")
        return self.repositories[key]

    def resolve(self, key: str, revision: str) -> tuple[str, dict[str, Any]]:
        """Commit id and commit of a branch, tag or commit id."""
        repository = self.get(key)
        name = revision.removeprefix("refs/heads/").removeprefix("refs/tags/")
        oid = repository["branches"].get(name) or repository["tags"].get(name) or name
        if oid not in repository["commits"]:
            raise HubError(404, f"Invalid rev id: {revision}", "RevisionNotFound")
        return oid, repository["commits"][oid]

    def file(self, key: str, revision: str, path: str) -> tuple[str, dict[str, Any]]:
        oid, commit = self.resolve(key, revision)
        if path not in commit["files"]:
            raise HubError(404, "Entry not found", "EntryNotFound")
        return oid, commit["files"][path]

    def history(self, key: str, revision: str) -> list[tuple[str, dict[str, Any]]]:
        """Commits, newest first."""
        oid: str | None = self.resolve(key, revision)[0]
        found, commits = [], self.repositories[key]["commits"]
        while oid:
            found.append((oid, commits[oid]))
            oid = commits[oid]["parent"]
        return found

    def commit(self, key: str, branch: str, header: Mapping[str, Any], changes: list[tuple[str, Any]]) -> str:
        """Apply `changes` ((path, file fields), or (path, None) to delete a file or folder/) as one commit."""
        with self._lock:
            repository = self.get(key)
            if branch not in repository["branches"]:
                raise HubError(404, f"Invalid rev id: {branch}", "RevisionNotFound")
            head = repository["branches"][branch]
            if header.get("parentCommit") and not head.startswith(header["parentCommit"]):
                raise HubError(412, "A commit has happened since. Please refresh and try again.")
            files = dict(repository["commits"][head]["files"])
            for path, file in changes:
                if file is None:
                    files = {p: f for p, f in files.items() if p != path and not p.startswith(path.rstrip("/") + "/")}
                else:
                    if not (self.blobs / file["sha256"]).exists():
                        raise HubError(400, f"{path}: the content {file['sha256']} was never uploaded")
                    files[path] = file
            return self._commit(key, branch, header["summary"], files)

    def _commit(self, key: str, branch: str, title: str, files: dict[str, Any]) -> str:
        repository = self.repositories[key]
        commit = {"parent": repository["branches"].get(branch), "title": title, "files": files,
                  "date": time.strftime("%Y-%m-%dT%H:%M:%S.000Z", time.gmtime())}
        serial = len(repository["commits"])
        oid = hashlib.sha1(f"{key} {serial} {json.dumps(commit, sort_keys=True)}".encode()).hexdigest()
        repository["commits"][oid] = commit
        repository["branches"][branch] = oid
        self._save()
        return oid

    def reference(self, key: str, kind: str, name: str, revision: str) -> None:
        """Add a branch or tag (`kind`: branches or tags)."""
        with self._lock:
            repository = self.get(key)
            if name in repository[kind]:
                raise HubError(409, f"Reference already exists: {name}")
            repository[kind][name] = self.resolve(key, revision)[0]
            self._save()

    def set_private(self, key: str, private: bool) -> None:
        with self._lock:
            self.get(key)["private"] = private
            self._save()
