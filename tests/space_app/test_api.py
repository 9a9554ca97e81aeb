import asyncio
import concurrent.futures
import csv
import io
import json
import threading
import zipfile

import gradio as gr
import numpy as np
import pytest
from gland_space.analysis import KINDS
from gland_space.api import row_endpoint
from gradio_client import handle_file
from gradio_client.exceptions import AppError
from PIL import Image
from space_tools import connect, discs

from hf_gland.data.build import load_local
from hf_gland.export.formats import FORMATS


@pytest.fixture(scope="module")
def client(server, tmp_path_factory):
    return connect(server.url, tmp_path_factory.mktemp("downloads"))


def labels_of(client):
    """What /segment returns, in order."""
    returns = client.view_api(return_format="dict")["named_endpoints"]["/segment"]["returns"]
    return [answer["label"] for answer in returns]


def test_the_endpoints_are_named_typed_and_documented(client):
    api = client.view_api(return_format="dict")["named_endpoints"]
    assert set(api) == {"/segment", "/dataset_row", "/model"}
    parameters = {p["parameter_name"]: p for p in api["/segment"]["parameters"]}
    assert list(parameters) == ["picture", "mpp", "unsure_below", "min_area", "page"]
    assert [p["parameter_has_default"] for p in parameters.values()] == [False, True, True, True, True]
    assert labels_of(client) == ["summary", "glands", *FORMATS, "zip"]
    assert "Segment the glands" in api["/segment"]["description"]


def test_as_tools_the_endpoints_have_the_same_names(server):
    public = [fn for fn in server.page.fns.values() if fn.api_visibility == "public"]
    assert {fn.api_name: fn.fn.__name__ for fn in public} == {name: name for name in ("segment", "dataset_row", "model")}
    assert all(fn.fn.__doc__ for fn in public)


def test_a_picture_gives_its_glands_and_files(client, picture_file):
    answers = client.predict(handle_file(str(picture_file(discs(3)))), mpp=0.8, api_name="/segment")
    found = dict(zip(labels_of(client), answers, strict=True))
    summary, table = found["summary"], found["glands"]
    assert (summary["glands"], summary["mpp"], summary["notes"]) == (3, 0.8, [])
    assert len(table["data"]) == 3
    assert dict(zip(table["headers"], table["data"][0], strict=True))["area_um2"] == pytest.approx(np.pi * 256, rel=0.05)
    assert np.array_equal(np.asarray(Image.open(found["mask"])), (discs(3)[..., 0] < 128).astype(np.uint8))
    assert Image.open(found["overlay"]).size == (260, 200)
    assert min(Image.open(found["heatmap"]).size) > 200  # a figure with its colour bar
    assert Image.open(found["confidence"]).mode == Image.open(found["instances"]).mode == "I;16"
    with open(found["geojson"]) as file:
        assert len(json.load(file)["features"]) == 3
    with open(found["csv"], newline="") as file:
        assert len(list(csv.DictReader(file))) == 3
    assert zipfile.ZipFile(found["zip"]).testzip() is None


def test_the_pixel_size_that_a_file_states_holds_unless_another_is_given(client, picture_file):
    path = handle_file(str(picture_file(discs(3), "stated.tif", dpi=(25_400 / 0.25, 25_400 / 0.25))))
    (stated, *_), (given, *_) = (client.predict(path, mpp=mpp, api_name="/segment") for mpp in (None, 0.5))
    assert (stated["mpp"], given["mpp"]) == (pytest.approx(0.25), 0.5)
    assert (stated["min_area_unit"], stated["notes"]) == ("µm²", [])


def test_options_reach_the_result(client, picture_file):
    summary, table, *_ = client.predict(handle_file(str(picture_file(discs(3)))), None, 100, 99_999, 1, api_name="/segment")
    assert (summary["glands"], summary["min_area_unit"], table["data"]) == (0, "px", [])
    assert "No pixel size given" in summary["notes"][0]


@pytest.mark.parametrize(("options", "words"), [
    ({"mpp": -1}, "not a plausible pixel size"), ({"mpp": 1e9}, "not a plausible"), ({"page": 2}, "no page 2; it holds 1"),
    ({"page": 0}, "no page 0"), ({"unsure_below": 101}, "0 to 100"), ({"min_area": -1}, "0 or more")])
def test_bad_options_are_refused_in_words(client, picture_file, options, words):
    with pytest.raises(AppError, match=words):
        client.predict(handle_file(str(picture_file(discs(1)))), **options, api_name="/segment")


def test_what_is_no_picture_is_refused_in_words_and_the_server_goes_on(client, tmp_path, picture_file):
    (tmp_path / "notes.png").write_text("no picture")
    with pytest.raises(AppError, match=r"notes\.png: not an image"):
        client.predict(handle_file(str(tmp_path / "notes.png")), api_name="/segment")
    assert client.predict(handle_file(str(picture_file(discs(1)))), api_name="/segment")[0]["glands"] == 1


def huge_progressive_jpeg():
    """A few hundred bytes that say they are 16000×16000 px in several scans, which no decoder can reduce on the way."""
    buffer = io.BytesIO()
    Image.new("L", (64, 64), 200).save(buffer, "JPEG", progressive=True)
    data = bytearray(buffer.getvalue())
    frame = data.index(b"\xff\xc2")  # start of a progressive frame: marker, length, precision, height, width
    data[frame + 5:frame + 9] = (16_000).to_bytes(2) * 2
    return bytes(data)


@pytest.mark.parametrize("endpoint", ["/segment", "/dataset_row"])
def test_a_progressive_jpeg_is_measured_before_it_is_decoded(client, picture_file, tmp_path, endpoint):
    (tmp_path / "bomb.jpg").write_bytes(huge_progressive_jpeg())
    mask = [] if endpoint == "/segment" else [handle_file(str(picture_file(np.full((9, 9), 1, np.uint8), "m.png")))]
    with pytest.raises(AppError, match=r"bomb\.jpg: 16000×16000 px, above the limit of 100 million"):
        client.predict(handle_file(str(tmp_path / "bomb.jpg")), *mask, api_name=endpoint)


def test_files_of_the_server_cannot_be_asked_for(client, server):
    import httpx
    for path in ("/etc/passwd", "../../etc/passwd", __file__):
        answer = httpx.get(f"{server.url}/gradio_api/file={path}", timeout=300)
        assert answer.status_code in (403, 404)
        payload = {"data": [{"path": path, "meta": {"_type": "gradio.FileData"}}, None, 75, None, 1]}
        event = httpx.post(f"{server.url}/gradio_api/call/segment", json=payload, timeout=300).json()["event_id"]
        result = httpx.get(f"{server.url}/gradio_api/call/segment/{event}", timeout=300).text
        assert "event: error" in result
        assert "root:" not in result


def test_addresses_are_not_fetched(client, server):
    import httpx
    for payload in ({"path": f"{server.url}/config"}, {"path": "https://example.invalid/a.png"}):
        body = {"data": [payload | {"meta": {"_type": "gradio.FileData"}}, None, 75, None, 1]}
        event = httpx.post(f"{server.url}/gradio_api/call/segment", json=body, timeout=300).json()["event_id"]
        assert "addresses are not fetched" in httpx.get(f"{server.url}/gradio_api/call/segment/{event}", timeout=300).text
    inputs = [block for block in server.page.blocks.values() if isinstance(block, gr.File) and block.label not in KINDS
              and block.label != "file to download"]
    assert len(inputs) == 5  # of both tabs and the endpoints
    for block in inputs:
        with pytest.raises(gr.Error, match="addresses are not fetched"):
            asyncio.run(block.async_move_resource_to_block_cache("https://example.invalid/a.png"))


def test_a_picture_and_its_mask_become_a_row(client, picture_file, tmp_path):
    mask = np.full((200, 260), 255, np.uint8)
    mask[30:70, 10:45] = 1
    archive = client.predict(handle_file(str(picture_file(discs(1)))), handle_file(str(picture_file(mask, "m.png"))),
                             "case-1", "P1", 0.5, api_name="/dataset_row")
    with zipfile.ZipFile(archive) as opened:
        opened.extractall(tmp_path / "row")
    (row,) = load_local(tmp_path / "row" / "dataset")["train"]
    assert np.array_equal(np.asarray(row["sparse_mask"]), mask)
    assert (row["image_id"], row["patient_id"], row["annotated_glands"]) == ("case-1", "P1", 1)


@pytest.mark.parametrize(("mask", "words"), [
    (np.full((200, 260), 9, np.uint8), "mask values 9"), (np.full((10, 10), 1, np.uint8), "10×10"),
    (np.full((200, 260), 300, np.uint16), "mask values 300")])
def test_a_wrong_mask_is_refused_in_words(client, picture_file, mask, words):
    with pytest.raises(AppError, match=words):
        client.predict(handle_file(str(picture_file(discs(1)))), handle_file(str(picture_file(mask, "m.png"))),
                       api_name="/dataset_row")


def test_a_row_of_a_picture_that_is_longer_than_the_demo_takes_is_refused_with_the_limit(make_demo, picture_file):
    row = row_endpoint(make_demo(max_side_px=250))
    mask = picture_file(np.full((200, 260), 1, np.uint8), "m.png")
    with pytest.raises(gr.Error, match=r"discs\.png: 260×200 px, above the limit of 250 px a side for a dataset row; crop"):
        row(str(picture_file(discs(1))), str(mask))


def test_the_model_is_described(client):
    facts = client.predict(api_name="/model")
    assert (facts["name"], facts["mpp"]) == ("test/dark-is-gland", 0.8)
    assert facts["classes"] == {"0": "background", "1": "gland"}


def test_each_of_several_clients_gets_its_own_result(server, picture_file):
    files = {count: picture_file(discs(count), f"picture{count}.png") for count in range(1, 4)}

    together = threading.Barrier(len(files))

    def visitor(count):
        own = connect(server.url)
        together.wait(300)
        return own.predict(handle_file(str(files[count])), mpp=0.8, api_name="/segment")[0]

    with concurrent.futures.ThreadPoolExecutor(3) as pool:
        for count, summary in zip(files, pool.map(visitor, files), strict=True):
            assert (summary["glands"], summary["picture"]) == (count, f"picture{count}.png")
