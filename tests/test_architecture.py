"""What the layout promises: imports run one way, no dead settings, nothing that runs code out of a file."""

import ast
import functools
import importlib.metadata
import re
import sys
import tomllib
from graphlib import TopologicalSorter
from pathlib import Path
from typing import get_type_hints

import pytest

from hf_gland.config import TrainConfig, all_settings

ROOT = Path(__file__).parents[1]
FILES = sorted(p for top in ("hf_gland", "scripts", "space_app") for p in (ROOT / top).rglob("*.py"))
GROUND = {"errors", "markdown", "options", "labels", "instances", "glands",
          "files", "flat_arrays", "locks", "environment", "config", "imaging", "shipped"}
# Which parts of the package each may import, beside itself. `method` and `metrics` know only tensors, arrays and labels.
MAY_IMPORT = {
    "errors": set(), "markdown": set(), "options": {"errors"}, "files": {"errors"}, "locks": {"errors"},
    "flat_arrays": set(),
    "environment": set(), "shipped": {"errors"}, "glands": set(), "labels": {"errors"}, "instances": {"labels", "errors"},
    "config": {"errors"}, "recipes": set(), "imaging": {"errors", "labels", "files"},
    "data": GROUND | {"export"}, "model": GROUND,
    "method": {"errors", "labels", "instances", "config", "flat_arrays"}, "metrics": {"errors", "labels", "instances"},
    "train": GROUND | {"data", "model", "method", "metrics"},
    "inference": GROUND | {"data", "model", "metrics", "export"},
    "evaluation": GROUND | {"data", "model", "metrics", "inference"},
    "export": GROUND,
    "hub": GROUND | {"data", "model", "metrics", "inference", "evaluation", "export"},
    "cli": GROUND | {"data", "model", "method", "metrics", "train", "inference", "evaluation", "export", "hub"},
    "__main__": {"cli"},
    "scripts": GROUND | {"data", "model", "method", "metrics", "train", "inference", "evaluation", "export", "hub", "cli"},
    "space_app": GROUND | {"data", "model", "metrics", "inference", "evaluation", "export", "hub"},
}
OF_RIVALS = {"tiatoolbox", "zarr"}  # in an environment of its own
RUNS_CODE = {"pickle", "cloudpickle", "dill", "joblib", "shelve", "marshal"}


def name_of(path):
    return str(path.relative_to(ROOT))


@functools.cache
def syntax(path):
    return ast.parse(path.read_text("utf-8"))


def module_name(path):
    """hf_gland/data/store.py is hf_gland.data.store; a package is its __init__.py."""
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


MODULES = {module_name(path): path for path in FILES}


def imports(path):
    """Full names of the modules that a file imports anywhere, in functions and for type checking too."""
    found = set()
    for node in ast.walk(syntax(path)):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{name_of(path)}:{node.lineno}: write imports in full"
            inner = {f"{node.module}.{alias.name}" for alias in node.names}
            found |= {name for name in inner if name in MODULES} or {node.module}
    return found


def part(path):
    """The row of MAY_IMPORT that a file belongs to."""
    parts = path.relative_to(ROOT).with_suffix("").parts
    return parts[1] if parts[0] == "hf_gland" else parts[0]


def package_parts(path):
    return {name.split(".")[1] for name in imports(path) if name.startswith("hf_gland.")}


def test_imports_run_one_way():
    against = {name_of(path): package_parts(path) - {part(path)} - MAY_IMPORT[part(path)]
               for path in FILES if module_name(path) != "hf_gland"}
    assert {name: parts for name, parts in against.items() if parts} == {}
    assert package_parts(ROOT / "hf_gland" / "__init__.py") == set()  # importing the package stays light


def test_every_part_of_the_package_has_its_place_in_the_order_of_imports():
    assert set(MAY_IMPORT) == {part(path) for path in FILES if module_name(path) != "hf_gland"}
    TopologicalSorter(MAY_IMPORT).prepare()


def test_no_module_imports_itself_by_a_detour():
    graph = {module: {name for name in imports(path) if name in MODULES} - {module} for module, path in MODULES.items()}
    TopologicalSorter(graph).prepare()  # raises CycleError, naming the modules


def test_scripts_stand_alone():
    names = {path.stem for path in FILES if part(path) == "scripts"}
    for path in FILES:
        taken = {name.split(".")[0] for name in imports(path)}
        assert "scripts" not in taken, name_of(path)
        if part(path) == "scripts":
            assert not taken & (names - {path.stem}), name_of(path)


def test_every_third_party_import_is_a_declared_dependency():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]

    def names(requirements):
        return {re.split(r"[^\w.-]", r)[0].lower().replace("_", "-") for r in requirements}

    always = names(project["dependencies"])
    optional = names(r for extra in project["optional-dependencies"].values() for r in extra)
    of_slides, of_export, of_ray = (names(project["optional-dependencies"][extra]) for extra in ("slides", "onnx", "ray"))
    always.add("httpx2")  # what huggingface_hub lets through when there is no network
    distributions = importlib.metadata.packages_distributions()
    for path in (p for p in FILES if part(p) != "space_app"):  # the Space has a requirements.txt of its own
        for top in {name.split(".")[0] for name in imports(path)} - sys.stdlib_module_names - {"hf_gland"}:
            owners = {d.lower().replace("_", "-") for d in distributions.get(top, [top])}
            allowed = always | (optional | OF_RIVALS if path.name == "benchmark_tiatoolbox.py" else
                                optional if part(path) == "scripts" else
                                of_slides if part(path) in ("imaging", "export") else
                                of_export if path.name == "exported.py" else
                                of_ray if path.name == "on_ray.py" else set())
            assert owners & allowed, f"{name_of(path)} imports {top}, which pyproject.toml does not ask for"


PLACES = {".".join(s.path) for s in all_settings().values()}
SECTIONS = {place.rpartition(".")[0] for place in PLACES}


def dotted(node):
    """"config.optim.steps" of the expression that says so, else "" ("self.config" and the like count as config)."""
    if isinstance(node, ast.Name):
        return node.id
    if not isinstance(node, ast.Attribute):
        return ""
    return "config" if node.attr == "config" else f"{dotted(node.value)}.{node.attr}"


def settings_read(path):
    """Places that a file reads under `config`, directly or through a name it gives to a section."""
    sections = {}
    for node in ast.walk(syntax(path)):
        if isinstance(node, ast.Assign):
            pairs = [(node.targets[0], node.value)]
            if isinstance(node.targets[0], ast.Tuple) and isinstance(node.value, ast.Tuple):
                pairs = list(zip(node.targets[0].elts, node.value.elts, strict=True))
            sections |= {name.id: place for name, value in pairs if isinstance(name, ast.Name)
                         and (place := dotted(value).removeprefix("config.")) in SECTIONS and dotted(value) != place}
        elif isinstance(node, ast.arg) and isinstance(node.annotation, ast.Name) and node.annotation.id in KINDS:
            sections[node.arg] = KINDS[node.annotation.id]
    read = set()
    for node in ast.walk(syntax(path)):
        if isinstance(node, ast.Attribute) and (chain := dotted(node)):
            if chain.startswith("self."):  # kept from the constructor's argument of that name
                chain = chain.removeprefix("self.")
            root, _, rest = chain.partition(".")
            if root == "config":
                read.add(rest)
            elif root in sections and rest:
                read.add(f"{sections[root]}.{rest}")
    return read


KINDS = {kind.__name__: name for name, kind in get_type_hints(TrainConfig).items() if name in SECTIONS}


def settings_behind_properties():
    """For each property of a section, such as method.has_teacher, the settings that it reads."""
    behind = {}
    for node in syntax(ROOT / "hf_gland" / "config" / "sections.py").body:
        if isinstance(node, ast.ClassDef) and node.name in KINDS:
            section = KINDS[node.name]
            for made in (n for n in node.body if isinstance(n, ast.FunctionDef)):
                read = {dotted(n).removeprefix("self.") for n in ast.walk(made) if isinstance(n, ast.Attribute)}
                behind[f"{section}.{made.name}"] = {f"{section}.{name}" for name in read}
    return behind


def test_every_setting_is_read():
    parts = ("train", "data", "method", "scripts", "cli")
    read = set().union(*(settings_read(path) for path in FILES if part(path) in parts))
    for _ in range(3):  # properties may read properties
        read |= set().union(*(settings for name, settings in settings_behind_properties().items() if name in read))
    assert PLACES - read - {"model.kwargs"} == set()
    assert "model_overrides" in read  # which reads model.kwargs


def test_no_setting_is_read_that_does_not_exist():
    known = PLACES | SECTIONS | set(settings_behind_properties()) | {n for n in vars(TrainConfig) if n[0] != "_"}
    for path in FILES:
        if part(path) in ("train", "method"):
            assert {place for place in settings_read(path) if place} - known == set(), name_of(path)


def test_a_file_can_be_read_in_one_sitting():
    lengths = {name_of(path): len(path.read_text("utf-8").splitlines()) for path in FILES}
    assert {name: lines for name, lines in lengths.items() if lines > 400} == {}


def runs_code(node):
    """Whether a piece of syntax could run code that comes with data or weights."""
    if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
        return (node.value.id, node.attr) in {("torch", "load"), ("torch", "save")}
    if isinstance(node, ast.keyword):
        return node.arg in {"trust_remote_code", "allow_pickle"}
    return isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in {"eval", "exec"}


def says_no_to_code(node):
    """`trust_remote_code=False`, without which transformers asks at the terminal whether to run a repository's code."""
    return (isinstance(node, ast.keyword) and node.arg == "trust_remote_code" and isinstance(node.value, ast.Constant)
            and node.value.value is False)


@pytest.mark.parametrize("line", ["torch.load(p)", "f(trust_remote_code=True)", "np.load(p, allow_pickle=True)", "eval(t)"])
def test_code_that_could_run_other_code_is_recognised(line):
    assert any(runs_code(node) for node in ast.walk(ast.parse(line)))


def test_no_file_runs_code_that_comes_with_data_or_weights():
    for path in FILES:
        assert not {name.split(".")[0] for name in imports(path)} & RUNS_CODE, name_of(path)
        loads = name_of(path) == "hf_gland/model/loading.py"
        assert not [n.lineno for n in ast.walk(syntax(path)) if runs_code(n) and not (loads and says_no_to_code(n))], path


def test_networks_are_loaded_in_one_place_only():
    """There a repository is checked first, and no code of it is run."""
    for path in FILES:
        calls = [n for n in ast.walk(syntax(path)) if isinstance(n, ast.Call) and isinstance(n.func, ast.Attribute)
                 and n.func.attr == "from_pretrained" and ast.unparse(n.func.value) != "GlandSegmenter"]
        if name_of(path) != "hf_gland/model/loading.py":
            assert not [n.lineno for n in calls], name_of(path)
        assert all(any(map(says_no_to_code, n.keywords)) for n in calls), name_of(path)


def test_every_module_says_what_it_is_for():
    silent = [name_of(p) for p in FILES if p.read_text("utf-8").strip() and not ast.get_docstring(syntax(p))]
    assert silent == []


@pytest.mark.parametrize(("page", "rooms"), [
    ("README.md", lambda text: re.search(r"^hf_gland/   .*?(?=^scripts/)", text, re.DOTALL | re.MULTILINE)[0]),
    ("CONTRIBUTING.md", lambda text: "\n".join(re.findall(r"^  \w+/", text, re.MULTILINE)))])
def test_the_layout_shows_the_rooms_there_are_in_an_order_that_imports_keep(page, rooms):
    there = {p.parent.name for p in (ROOT / "hf_gland").glob("*/__init__.py")} - {"recipes"}
    shown = rooms((ROOT / page).read_text("utf-8")).splitlines()
    order = [room for line in shown for room in (line[12:43].split() if page == "README.md" else [line.strip(" /")])]
    assert sorted(order) == sorted(there)
    for place, room in enumerate(order):
        assert not MAY_IMPORT[room] & set(order[place + 1:]), f"{room} imports from a room that {page} has after it"
