"""Who may ask the server for what, and how much it keeps of it."""

import os
import threading
import time

import httpx
import pytest
from gland_space import server as guard
from gland_space.demo import QuotaError
from gland_space.server import host_allowed, make_room
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
    return httpx.post(f"{server.url}/gradio_api/upload", files={"files": (name, os.urandom(size))}, timeout=120, **options)


@pytest.mark.parametrize("path", ["/", "/config", "/gradio_api/info", "/gradio_api/upload", "/gradio_api/mcp/"])
def test_every_path_is_closed_to_a_rebound_name(small, path):
    for method in ("GET", "POST"):
        answer = httpx.request(method, small.url + path, headers={"Host": "evil.example"}, timeout=120)
        assert (answer.status_code, "does not answer under that name" in answer.text) == (421, True)
    assert httpx.get(small.url + "/config", timeout=120).status_code == 200


def test_the_browser_is_told_to_fetch_nothing_from_elsewhere(small):
    policy = httpx.get(small.url + "/", timeout=120).headers["content-security-policy"]
    sources = dict(part.strip().split(" ", 1) for part in policy.split(";"))
    assert set(sources["default-src"].split()) == {"'self'", "'unsafe-inline'", "'unsafe-eval'", "data:", "blob:"}
    assert sources["form-action"] == "'none'"


def test_requests_state_their_length_and_keep_to_the_limit(small):
    def endless():
        yield b"x" * 1000
    answer = httpx.post(f"{small.url}/gradio_api/upload", content=endless(), timeout=120)
    assert (answer.status_code, answer.text) == (411, "a request must state its length")
    answer = httpx.post(f"{small.url}/gradio_api/queue/join", content=b"x" * (MIB + 1), timeout=120)
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


def test_uploads_on_their_way_count_too(small, monkeypatch):
    monkeypatch.setattr(guard, "IN_USE_SECONDS", 3600)
    for path in small.demo.folder.rglob("*.png"):
        path.unlink()
    arrived, statuses = threading.Event(), []

    def slowly():
        yield b"x"
        arrived.wait(60)
        yield b"x" * (3 * MIB // 2 - 1)

    slow = threading.Thread(target=lambda: statuses.append(httpx.post(
        f"{small.url}/gradio_api/upload", content=slowly(), timeout=120,
        headers={"Content-Length": str(3 * MIB // 2), "Content-Type": "multipart/form-data; boundary=x"}).status_code))
    slow.start()
    try:
        for _ in range(200):
            if (answer := upload(small, 3 * MIB // 2)).status_code == 507:
                break
            for path in small.demo.folder.rglob("*.png"):
                path.unlink()
        assert answer.status_code == 507
    finally:
        arrived.set()
        slow.join()
    assert upload(small, 3 * MIB // 2).status_code == 200  # what did not arrive counts no more


def test_room_is_made_from_the_oldest_file(tmp_path, monkeypatch):
    (tmp_path / "deep").mkdir()
    for name, size in (("deep/old", 400), ("new", 300)):
        (tmp_path / name).write_bytes(b"x" * size)
        time.sleep(0.02)  # the file system's clock ticks every few milliseconds
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
