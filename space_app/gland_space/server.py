"""What guards the page: the folder that everything is written to, its quota, and who may ask for what."""

import atexit
import ipaddress
import os
import shutil
import tempfile
import threading
import time
from collections.abc import Collection
from pathlib import Path
from urllib.parse import urlsplit

import gradio.mcp
from starlette.datastructures import Headers
from starlette.responses import PlainTextResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from gland_space.pictures import Limits

SWEEP_SECONDS = 60.0
IN_USE_SECONDS = 60.0  # a file this young may be read at this moment
LOCAL_NAMES = ("localhost",)
# The page's own scripts are inline, and gradio builds its widgets' from text; nothing comes from or goes elsewhere.
CONTENT_POLICY = ("default-src 'self' 'unsafe-inline' 'unsafe-eval' data: blob:; form-action 'none'; "
                  "object-src 'none'; base-uri 'self'")


def new_folder(folder: Path) -> Path:
    """A new, empty folder below `folder` with an unguessable name."""
    folder.mkdir(parents=True, exist_ok=True)
    return Path(tempfile.mkdtemp(dir=folder))


def sweep(folder: Path, max_age_seconds: float) -> int:
    """Remove files older than that, and folders as old that are empty; returns how many files went."""
    oldest, removed = time.time() - max_age_seconds, 0
    for place, _, names in os.walk(folder, topdown=False):
        for name in names:
            file = Path(place, name)
            try:
                if file.lstat().st_ctime < oldest:
                    file.unlink()
                    removed += 1
            except OSError:  # already gone
                continue
        try:
            if Path(place) != folder and Path(place).stat().st_mtime < oldest:
                os.rmdir(place)
        except OSError:  # something is in it
            continue
    return removed


def make_room(folder: Path, wanted: int, quota: int) -> bool:
    """Remove the oldest files until `wanted` more bytes fit into `quota`; False where files in use alone fill it.

    Uploads, downloads and gradio's own copies count alike, whoever they belong to.
    """
    found = []
    for place, _, names in os.walk(folder):
        for name in names:
            try:
                state = Path(place, name).lstat()
                found.append((state.st_ctime, state.st_size, Path(place, name)))
            except OSError:  # already gone
                continue
    total, in_use = sum(size for _, size, _ in found), time.time() - IN_USE_SECONDS
    for written, size, file in sorted(found):
        if total + wanted <= quota or written > in_use:
            break
        file.unlink(missing_ok=True)
        total -= size
    return total + wanted <= quota


class TemporaryFolder:
    """A temporary folder that Python and gradio put all their files into, swept once a minute.

    `close()` removes it; so does the end of the program.
    """

    def __init__(self, keep_seconds: float) -> None:
        self.path = Path(tempfile.mkdtemp(prefix="hf-gland-space-"))
        self._before = (os.environ.get("GRADIO_TEMP_DIR"), tempfile.tempdir, gradio.mcp.DEFAULT_TEMP_DIR)
        os.environ["GRADIO_TEMP_DIR"] = tempfile.tempdir = str(self.path)  # uploads pass through both
        gradio.mcp.DEFAULT_TEMP_DIR = str(self.path)  # set when gradio loads; for what tools are given as data: URIs
        self._closed = threading.Event()
        self._keep_seconds = keep_seconds
        self._sweeper = threading.Thread(target=self._sweep, name="temporary files", daemon=True)
        self._sweeper.start()
        atexit.register(self.close)

    def _sweep(self) -> None:
        while not self._closed.wait(SWEEP_SECONDS):
            sweep(self.path, self._keep_seconds)

    def close(self) -> None:
        if self._closed.is_set():
            return
        self._closed.set()
        self._sweeper.join()
        gradio_folder, tempfile.tempdir, gradio.mcp.DEFAULT_TEMP_DIR = self._before
        if gradio_folder is None:
            os.environ.pop("GRADIO_TEMP_DIR", None)
        else:
            os.environ["GRADIO_TEMP_DIR"] = gradio_folder
        shutil.rmtree(self.path, ignore_errors=True)


def host_allowed(header: str, allowed: Collection[str]) -> bool:
    """Whether a request's Host header names this server: an address as such, or one of the names `allowed`.

    A page elsewhere can have its own name point to this machine (DNS rebinding) and would then be one origin with the
    demo; it cannot make the browser send an address, or a name that is not its own.
    """
    try:
        host = urlsplit(f"//{header}").hostname or ""
    except ValueError:
        return False
    if host in (*LOCAL_NAMES, *allowed):
        return True
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True


def same_site(origin: str | None, host: str) -> bool:
    """Whether a request's Origin header, if there is one, is the page that its Host header names."""
    return origin is None or urlsplit(origin).netloc.lower() == host.lower()


class Guard:
    """ASGI middleware: which hosts are served, and to which pages (all where `hosts` is None), how large a request may be,
    and the total of what visitors have stored in `folder`."""

    def __init__(self, app: ASGIApp, folder: Path, limits: Limits, hosts: Collection[str] | None) -> None:
        self.app, self.folder, self.limits, self.hosts = app, folder, limits, hosts
        self._arriving = 0  # bytes of uploads under way

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] not in ("http", "websocket"):
            await self.app(scope, receive, send)
            return
        headers, closed = Headers(scope=scope), self.hosts is not None
        if closed and not host_allowed(headers.get("host", ""), self.hosts or ()):
            await _refuse(scope, receive, send, 421, "this server does not answer under that name; start it with "
                          "--allow-host NAME to add one")
            return
        if closed and scope.get("method") == "POST" and not same_site(headers.get("origin"), headers.get("host", "")):
            await _refuse(scope, receive, send, 403, "this server does not work for pages of other sites")
            return
        if "transfer-encoding" in headers:
            await _refuse(scope, receive, send, 411, "a request must state its length")
            return
        size = int(headers.get("content-length", "0"))
        path = scope["path"].rstrip("/")
        upload = scope["type"] == "http" and path.endswith("/upload")
        limit = self.limits.max_file_mb + 1 if upload else self.limits.max_request_mb  # a form is a little longer
        if size > limit * 2**20:
            await _refuse(scope, receive, send, 413, f"the request is larger than {limit} MB")
            return
        if not (upload or "/mcp" in path):  # tools are given pictures inside their requests, and gradio writes them to files
            await self.app(scope, receive, _with_policy(send))
            return
        if not make_room(self.folder, self._arriving + size, self.limits.quota_mb * 2**20):
            await _refuse(scope, receive, send, 507, f"The demo holds {self.limits.quota_mb} MB of its visitors' pictures "
                          "at a time, and they are all in use. Please try again in a minute.")
            return
        self._arriving += size
        try:
            await self.app(scope, receive, send if upload else _with_policy(send))
        finally:
            self._arriving -= size


async def _refuse(scope: Scope, receive: Receive, send: Send, status: int, message: str) -> None:
    if scope["type"] == "websocket":
        await send({"type": "websocket.close", "code": 1008})
        return
    await PlainTextResponse(message, status)(scope, receive, send)


def _with_policy(send: Send) -> Send:
    async def sending(message: Message) -> None:
        if message["type"] == "http.response.start":
            message["headers"] = [*message.get("headers", ()), (b"content-security-policy", CONTENT_POLICY.encode())]
        await send(message)

    return sending
