"""Who may ask the server for what, and how much it keeps of it."""

import asyncio
import os
import tempfile
from pathlib import Path

import gradio.mcp
import httpx
import pytest
from gland_space import server as guard
from gland_space.demo import QuotaError
from gland_space.pictures import Limits
from gland_space.server import TemporaryFolder, host_allowed, make_room, new_folder, sweep
from space_tools import Server

MIB = 2**20


@pytest.mark.parametrize("header", ["127.0.0.1:7860", "localhost", "localhost:80", "[::1]:7860", "192.168.1.20:7860",
                                    "10.0.0.1", "demo.lab.example", "DEMO.lab.example:7860"])
def test_addresses_and_own_names_are_answered(header):
    assert host_allowed(header, {"demo.lab.example"})


@pytest.mark.parametrize("header", ["", "evil.example", "evil.example:7860", "localhost.evil.example",
                                    "127.0.0.1.evil.example", "evil.example@127.0.0.1.nip.io",
                                    "[::1", "lab.example", "0x7f000001.evil.example"])
def test_foreign_names_are_not(header):
    """What a browser sends for a page elsewhere whose name was pointed to this machine (DNS rebinding)."""
    assert not host_allowed(header, {"demo.lab.example"})


@pytest.fixture(scope="module")
def small():
    running = Server(quota_mb=3, max_file_mb=2, max_request_mb=1)
    yield running
    running.close()


def upload(server, size, name="a.png", **options):
    return httpx.post(f"{server.url}/gradio_api/upload", files={"files": (name, os.urandom(size))}, timeout=300, **options)


@pytest.mark.parametrize("path", ["/", "/config", "/gradio_api/info", "/gradio_api/upload", "/gradio_api/mcp/"])
def test_every_path_is_closed_to_a_rebound_name(small, path):
    for method in ("GET", "POST"):
        answer = httpx.request(method, small.url + path, headers={"Host": "evil.example"}, timeout=300)
        assert (answer.status_code, "does not answer under that name" in answer.text) == (421, True)
    assert httpx.get(small.url + "/config", timeout=300).status_code == 200


@pytest.mark.parametrize("origin", ["http://evil.example", "https://127.0.0.1", "http://192.168.1.20:7860", "null"])
def test_pages_of_other_sites_cannot_make_it_work(small, origin):
    for path in ("/gradio_api/call/segment", "/gradio_api/upload", "/gradio_api/mcp/", "/gradio_api/queue/join"):
        answer = httpx.post(small.url + path, headers={"Origin": origin, "Content-Type": "text/plain"}, timeout=300)
        assert (answer.status_code, "pages of other sites" in answer.text) == (403, True)
    assert upload(small, 1000, headers={"Origin": small.url}).status_code == 200


def test_a_space_answers_under_any_name(tmp_path):
    reached = []

    async def app(scope, receive, send):
        reached.append(scope["path"])

    anywhere = guard.Guard(app, tmp_path, Limits(), None)
    headers = [(b"host", b"owner-name.hf.space"), (b"origin", b"https://huggingface.co")]
    asyncio.run(anywhere({"type": "http", "method": "POST", "path": "/config", "headers": headers}, None, None))
    assert reached == ["/config"]


def test_the_browser_is_told_to_fetch_nothing_from_elsewhere(small):
    policy = httpx.get(small.url + "/", timeout=300).headers["content-security-policy"]
    sources = dict(part.strip().split(" ", 1) for part in policy.split(";"))
    assert set(sources["default-src"].split()) == {"'self'", "'unsafe-inline'", "'unsafe-eval'", "data:", "blob:"}
    assert sources["form-action"] == "'none'"


def test_requests_state_their_length_and_keep_to_the_limit(small):
    def endless():
        yield b"x" * 1000
    answer = httpx.post(f"{small.url}/gradio_api/upload", content=endless(), timeout=300)
    assert (answer.status_code, answer.text) == (411, "a request must state its length")
    answer = httpx.post(f"{small.url}/gradio_api/queue/join", content=b"x" * (MIB + 1), timeout=300)
    assert (answer.status_code, answer.text) == (413, "the request is larger than 1 MB")
    assert upload(small, 4 * MIB).status_code == 413


def test_all_uploads_together_keep_to_a_quota_and_the_visitor_is_told(small, monkeypatch):
    folder = small.demo.folder
    monkeypatch.setattr(guard, "IN_USE_SECONDS", 3600)
    assert upload(small, MIB, "first.png").status_code == upload(small, MIB, "second.png").status_code == 200
    refused = upload(small, 3 * MIB // 2, "third.png")
    assert refused.status_code == 507
    assert "holds 3 MB of its visitors' pictures at a time" in refused.text
    assert "try again in a minute" in refused.text
    monkeypatch.setattr(guard, "IN_USE_SECONDS", -1)  # nothing is in use: the oldest goes
    assert upload(small, 3 * MIB // 2, "fourth.png").status_code == 200
    assert sorted(path.name for path in folder.rglob("*.png")) == ["fourth.png", "second.png"]
    assert sum(path.stat().st_size for path in folder.rglob("*") if path.is_file()) <= 3 * MIB


def test_pictures_inside_the_requests_of_tools_count_too(tmp_path, monkeypatch):
    statuses = []

    async def app(scope, receive, send):
        statuses.append("served")

    async def send(message):
        statuses.extend([message["status"]] if message["type"] == "http.response.start" else [])

    monkeypatch.setattr(guard, "IN_USE_SECONDS", 3600)
    (tmp_path / "a.png").write_bytes(b"x" * 2 * MIB)
    closed = guard.Guard(app, tmp_path, Limits(quota_mb=3, max_file_mb=2), ())
    for path, size in (("/gradio_api/mcp/", 2 * MIB), ("/gradio_api/mcp/", MIB // 2), ("/gradio_api/queue/join", 2 * MIB)):
        headers = [(b"host", b"127.0.0.1"), (b"content-length", str(size).encode())]
        asyncio.run(closed({"type": "http", "method": "POST", "path": path, "headers": headers}, None, send))
    assert statuses == [507, "served", "served"]


def test_uploads_on_their_way_count_too(tmp_path):
    async def two_at_once():
        arrived, statuses = asyncio.Event(), []

        async def slow_app(scope, receive, send):
            await arrived.wait()
            statuses.append(200)

        async def send(message):
            if message["type"] == "http.response.start":
                statuses.append(message["status"])

        def upload_of(size):
            headers = [(b"host", b"127.0.0.1"), (b"content-length", str(size).encode())]
            return closed({"type": "http", "method": "POST", "path": "/gradio_api/upload", "headers": headers}, None, send)

        closed = guard.Guard(slow_app, tmp_path, Limits(quota_mb=3, max_file_mb=2), ())
        first = asyncio.create_task(upload_of(3 * MIB // 2))
        await asyncio.sleep(0)
        await upload_of(3 * MIB // 2 + 1)
        arrived.set()
        await first
        await upload_of(3 * MIB // 2 + 1)  # what did not arrive in the end counts no more
        return statuses

    assert asyncio.run(two_at_once()) == [507, 200, 200]


def test_room_is_made_from_the_oldest_file(tmp_path, monkeypatch):
    (tmp_path / "deep").mkdir()
    old, new = tmp_path / "deep" / "old", tmp_path / "new"
    old.write_bytes(b"x" * 400)
    new.write_bytes(b"x" * 300)
    while new.stat().st_ctime <= old.stat().st_ctime:  # until the file system's clock has ticked
        new.write_bytes(b"x" * 300)
    monkeypatch.setattr(guard, "IN_USE_SECONDS", -3600)
    assert make_room(tmp_path, 300, 1000)
    assert (tmp_path / "deep" / "old").exists()
    assert make_room(tmp_path, 500, 1000)
    assert not (tmp_path / "deep" / "old").exists()
    assert (tmp_path / "new").exists()
    assert not make_room(tmp_path, 1001, 1000)


def test_where_all_room_is_in_use_no_file_is_written(make_demo, tmp_path, monkeypatch):
    demo = make_demo(quota_mb=1)
    demo.folder.mkdir()
    (demo.folder / "upload").write_bytes(b"x" * (MIB + 1))
    with pytest.raises(QuotaError, match="try again in a minute"):
        demo.out_folder()
    monkeypatch.setattr(guard, "IN_USE_SECONDS", -1)
    assert demo.out_folder().is_dir()
    assert not (demo.folder / "upload").exists()


def test_old_files_and_empty_folders_go_and_young_ones_stay(tmp_path):
    (tmp_path / "a" / "b").mkdir(parents=True)
    (tmp_path / "a" / "b" / "file").write_text("x")
    (tmp_path / "empty").mkdir()
    assert sweep(tmp_path, 3600) == 0
    assert (tmp_path / "a" / "b" / "file").exists()
    assert (tmp_path / "empty").exists()
    assert sweep(tmp_path, -1) == 1
    assert sweep(tmp_path, -1) == 0
    assert list(tmp_path.iterdir()) == []


def test_a_new_folder_has_no_guessable_name(tmp_path):
    first, second = new_folder(tmp_path / "x"), new_folder(tmp_path / "x")
    assert first != second
    assert first.parent == tmp_path / "x"
    assert oct(first.stat().st_mode & 0o077) == "0o0"


def test_python_and_gradio_write_into_it_until_it_is_closed():
    before = (tempfile.gettempdir(), os.environ.get("GRADIO_TEMP_DIR"), gradio.mcp.DEFAULT_TEMP_DIR)
    folder = TemporaryFolder(60)
    try:
        with tempfile.NamedTemporaryFile() as file:
            assert Path(file.name).parent == folder.path
        assert os.environ["GRADIO_TEMP_DIR"] == gradio.mcp.DEFAULT_TEMP_DIR == str(folder.path)
        (folder.path / "left.txt").write_text("x")
    finally:
        folder.close()
    folder.close()
    assert not folder.path.exists()
    assert (tempfile.gettempdir(), os.environ.get("GRADIO_TEMP_DIR"), gradio.mcp.DEFAULT_TEMP_DIR) == before
