import ast
import importlib.util
import re
from html import unescape

import pytest
from gland_space.demo import Demo
from gland_space.page import build_page
from gland_space.page_parts import STATIC, examples, examples_html
from gland_space.pictures import Limits, read_picture
from hostile import hostile_demo, without_records
from huggingface_hub import SpaceCard
from space_tools import SPACE_APP, dark_demo

ROOT = SPACE_APP.parent
REQUIREMENT = re.compile(r"^([\w-]+)==(\S+)$", re.MULTILINE)


@pytest.fixture(scope="module")
def app():
    spec = importlib.util.spec_from_file_location("space_main", SPACE_APP / "app.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_requirements_pin_what_the_project_is_tested_with():
    required = dict(REQUIREMENT.findall((SPACE_APP / "requirements.txt").read_text()))
    tested = dict(REQUIREMENT.findall((ROOT / "constraints.txt").read_text()))
    assert required == {name: tested[name] for name in required}
    card = SpaceCard.load(SPACE_APP / "README.md").data
    assert (card.sdk, card.sdk_version, card.app_file) == ("gradio", required["gradio"], "app.py")


def modules_imported(file):
    for node in ast.walk(ast.parse(file.read_text("utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield node.module or ""


def test_the_demo_needs_no_training_code():
    files = [SPACE_APP / "app.py", *(SPACE_APP / "gland_space").glob("*.py")]
    assert len(files) > 12
    imported = {module for file in files for module in modules_imported(file)}
    assert not [module for module in imported if module.startswith("hf_gland.train")]


def test_nothing_is_fetched_from_outside():
    for file in STATIC.iterdir():
        addresses = set(re.findall(r"(?:https?:)?//[\w.-]+\.[a-z]{2,}[^\s\"')]*", file.read_text("utf-8")))
        assert addresses <= {"http://www.w3.org/2000/svg"}, file.name


def test_examples_are_small_synthetic_and_know_their_pixel_size():
    found = examples()
    assert [example.title for example in found][:2] == ["benign glands", "malignant glands"]
    for example in found:
        assert example.path.stat().st_size < 300_000
        picture = read_picture(example.path, Limits())
        assert (picture.mpp, picture.reduction, picture.notes) == (0.62, 1.0, ())
    assert examples_html(found).count("data-example=") == len(found)


@pytest.mark.parametrize("arguments", [["--concurrency", "0"], ["--keep-minutes", "-1"], ["--port", "http"]])
def test_senseless_options_are_refused(app, arguments, capsys):
    with pytest.raises(SystemExit) as caught:
        app.parse_arguments(arguments)
    assert caught.value.code == 2
    assert "error:" in capsys.readouterr().err


def test_the_mcp_switch_says_what_is_missing_instead_of_serving_404(app, monkeypatch, capsys):
    monkeypatch.setattr(app, "find_spec", lambda name: None)
    assert app.main(["--mcp"]) == 2
    assert "pip install 'gradio[mcp]'" in capsys.readouterr().err
    monkeypatch.setattr(app, "find_spec", lambda name: object())
    monkeypatch.setattr(app, "version", lambda name: "2.1.0")
    assert "needs mcp < 2, but 2.1.0" in app.mcp_problem()
    monkeypatch.setattr(app, "version", lambda name: "1.26.0")
    assert app.mcp_problem() is None


def test_a_model_that_cannot_be_loaded_is_explained_on_the_page(app, tmp_path, monkeypatch, capsys):
    (tmp_path / "model").mkdir()
    demo = app.make_demo(app.parse_arguments(["--model", str(tmp_path / "model")]), tmp_path)
    assert demo.model is None
    assert "no config.json" in demo.problem
    assert "error:" in capsys.readouterr().err
    page = unescape(str(build_page(demo).get_config_file()))
    assert "no config.json" in page
    assert "HF_GLAND_MODEL=" in page
    demo.runner.close()


@pytest.mark.parametrize("make", [hostile_demo, without_records])
def test_what_a_model_says_of_itself_stays_text(tmp_path, make):
    demo = make(tmp_path)
    parts = build_page(demo).get_config_file()["components"]
    demo.runner.close()
    said = {kind: [text for part in parts if part["type"] == kind and "tracker" in (text := str(part["props"].get("value")))]
            for kind in ("markdown", "html")}
    assert [len(texts) for texts in said.values()] == [3, 1]  # classes, figures and licence; the command on the Annotate tab
    for kind, texts in said.items():
        for text in texts:
            assert not re.search(r"<(img|form|input|script)", text)
            assert kind == "html" or not re.search(r"!\[|\]\(|://tracker|://evil|\n# Log in", text)
    assert all(part["props"]["latex_delimiters"] == [] for part in parts if part["type"] == "markdown")


def test_without_a_model_no_endpoint_pretends_to_segment(tmp_path):
    def named(demo):
        page = build_page(demo)
        demo.runner.close()
        return set(page.get_api_info()["named_endpoints"])

    assert named(Demo(None, None, tmp_path)) == {"/dataset_row", "/model"}
    assert named(dark_demo(tmp_path)) == {"/segment", "/dataset_row", "/model"}
