"""Write the `evaluate` module as a folder that needs no installed `hf_gland`: what a metric repository holds.

The files are the package's own, with their imports made relative; nothing is kept twice in this repository.
"""

import importlib.util
import re
from pathlib import Path

from hf_gland.metrics import gland_segmentation

OWN_IMPORT = re.compile(r"^from (hf_gland(?:\.\w+)*)\.(\w+) import", re.MULTILINE)

INDEX = """\
<!doctype html>
<html lang="en"><meta charset="utf-8"><title>{name}</title>
<body style="font: 16px/1.5 sans-serif; max-width: 44rem; margin: 2rem auto">
<h1>{name}</h1>
<p>{description}</p>
<pre>import evaluate
metric = evaluate.load("&lt;owner&gt;/{name}")</pre>
</body></html>
"""


def write_standalone(folder: Path, name: str = "gland_segmentation") -> Path:
    """Write the module and a start page into `folder` (made if absent) and return the path of its script.

    `evaluate.load(<owner>/<name>)` looks for `<name>.py`, so `name` must be that of the repository.
    """
    folder.mkdir(parents=True, exist_ok=True)
    index = INDEX.format(name=name, description=gland_segmentation.DESCRIPTION)
    requirements = "evaluate>=0.4.6\nnumpy>=2.0\nscipy>=1.14\n"
    for file_name, content in (_sources(name) | {"index.html": index, "requirements.txt": requirements}).items():
        (folder / file_name).write_text(content, "utf-8")
    return folder / f"{name}.py"


def _sources(name: str) -> dict[str, str]:
    """{file name: source} of the module and of all it imports from this package."""
    sources: dict[str, str] = {}
    pending = [gland_segmentation.__name__]
    while pending:
        module = pending.pop()
        spec = importlib.util.find_spec(module)
        if spec is None or spec.origin is None:
            raise FileNotFoundError(f"the source of {module} cannot be found; install hf_gland from files")
        source = Path(spec.origin).read_text(encoding="utf-8")
        sources[_stem(module)] = OWN_IMPORT.sub(r"from .\2 import", source)
        imported = {".".join(match) for match in OWN_IMPORT.findall(source)}
        pending += [m for m in imported if _stem(m) not in sources]
    script = sources.pop(_stem(gland_segmentation.__name__))
    # `evaluate` fetches only the files that the script itself imports, so the script must name them all.
    named = "".join(f"from .{stem} import __name__ as _{stem}\n" for stem in sorted(sources))
    first = script.index("from .")
    return {f"{stem}.py": source for stem, source in sources.items()} | {
        f"{name}.py": script[:first] + named + script[first:]}


def _stem(module: str) -> str:
    return module.rpartition(".")[2]
