"""A Hub on this machine, and a process in which its real clients run."""

import json
import os
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from ports import free_port

TESTS = Path(__file__).resolve().parents[1]
CLIENTS = Path(__file__).resolve().parent / "clients"


class LocalHub:
    """The server of tests/local_hub as a process of its own, which can be killed and started again on the same port."""

    def __init__(self, folder: Path):
        self.folder, self.port = folder, free_port()
        self.environment: dict[str, str] = {}
        self.start()

    def start(self) -> None:
        command = [sys.executable, str(TESTS / "local_hub"), "--folder", str(self.folder), "--port", str(self.port)]
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        assert self.process.stdout is not None
        for line in self.process.stdout:
            name, value = line.strip().removeprefix("export ").split("=", 1)
            self.environment[name] = value
            if name == "HF_HUB_DISABLE_UPDATE_CHECK":
                break
        self.endpoint = self.environment["HF_ENDPOINT"]

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()

    def ask(self, path: str, body: Any = None) -> Any:
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(f"{self.endpoint}{path}", data, {"Authorization": "Bearer hf_local_writer"})
        with urllib.request.urlopen(request, timeout=300) as answer:
            return json.load(answer)

    def faults(self, **faults: str) -> None:
        """Arrange faults (see hub_app); none clears them."""
        self.ask("/_faults", faults)

    def requests(self) -> list[str]:
        """What was asked of the server since this was last called."""
        return self.ask("/_requests")

    def repositories(self) -> dict[str, Any]:
        """What the server keeps of each `kind/owner/name`."""
        index = self.folder / "repositories.json"
        return json.loads(index.read_text()) if index.exists() else {}

    def commits(self, kind: str, repo: str, revision: str = "main") -> list[str]:
        """Titles of a branch's commits, newest first."""
        return [c["title"] for c in self.ask(f"/api/{kind}/{repo}/commits/{revision}")]

    def files(self, kind: str, repo: str, revision: str = "main") -> dict[str, bytes]:
        """Every file of a revision, as the server keeps it."""
        tree = self.ask(f"/api/{kind}/{repo}/tree/{revision}?recursive=true")
        kept = self.repositories()[f"{kind}/{repo}"]
        commit = kept["commits"][kept["branches"].get(revision) or kept["tags"][revision]]
        return {e["path"]: (self.folder / "blobs" / commit["files"][e["path"]]["sha256"]).read_bytes()
                for e in tree if e["type"] == "file" and e["path"] != ".gitattributes"}


@dataclass
class Outcome:
    """How a command ended, and what it printed."""

    status: int
    stdout: str
    stderr: str

    @property
    def result(self) -> Any:
        """The JSON in the last line a client script printed."""
        assert self.status == 0, self.stderr
        return json.loads(self.stdout.splitlines()[-1])


class HubClient:
    """A process that imported the clients once, with the Hub's address in its environment, and forks for each command.

    The clients read their settings when they are imported, so nothing of this can run in the tests' own process.
    """

    def __init__(self, environment: dict[str, str], folder: Path):
        self.folder, self.count = folder, 0
        self.process = subprocess.Popen([sys.executable, str(Path(__file__).with_name("client_host.py"))], text=True,
                                        stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=os.environ | environment)

    def run(self, script: str | Path, *arguments: object, environment: dict[str, str] | None = None) -> Outcome:
        """Run a script of scripts/ or of tests/hub/clients/ by its name."""
        path = CLIENTS / script if (CLIENTS / script).exists() else TESTS.parent / "scripts" / script
        self.count += 1
        out, err = self.folder / f"{self.count}.out", self.folder / f"{self.count}.err"
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        order = {"argv": [str(path), *map(str, arguments)], "environment": environment or {}, "out": str(out),
                 "err": str(err)}
        self.process.stdin.write(json.dumps(order) + "\n")
        self.process.stdin.flush()
        answer = self.process.stdout.readline()
        assert answer, "the client process has died"
        return Outcome(json.loads(answer), out.read_text(), err.read_text())

    def publish(self, *arguments: object, environment: dict[str, str] | None = None) -> Outcome:
        """`python scripts/publish.py ARGUMENTS`."""
        return self.run("publish.py", *arguments, environment=environment)

    def close(self) -> None:
        self.process.kill()
        self.process.wait()


@pytest.fixture(scope="session")
def session_hub(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalHub]:
    hub = LocalHub(tmp_path_factory.mktemp("hub"))
    yield hub
    hub.kill()


@pytest.fixture
def hub(session_hub: LocalHub) -> Iterator[LocalHub]:
    """A running Hub without faults, whose list of requests is empty."""
    session_hub.requests()
    yield session_hub
    if session_hub.process.poll() is not None:
        session_hub.start()
    session_hub.faults()


@pytest.fixture(scope="session")
def client(session_hub: LocalHub, tmp_path_factory: pytest.TempPathFactory) -> Iterator[HubClient]:
    host = HubClient(session_hub.environment, tmp_path_factory.mktemp("client"))
    yield host
    host.close()


@pytest.fixture(scope="session")
def run(tmp_path_factory: pytest.TempPathFactory, tiny_dataset: Path) -> Path:
    """A finished run on `tiny_dataset`, measured on its validation split."""
    from publications import write_run

    return write_run(tmp_path_factory.mktemp("run") / "first", tiny_dataset)
