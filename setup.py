"""Takes the top-level folders that the commands need into the wheel, as hf_gland/shipped/; all else is in pyproject.toml."""

import shutil
from pathlib import Path

from setuptools import setup
from setuptools.command.build_py import build_py

SHIPPED = ("hub_cards", "space_app", "constraints.txt")
LEFT_OUT = shutil.ignore_patterns("__pycache__", "figures", "benchmarks")


class BuildWithShipped(build_py):
    def run(self) -> None:
        super().run()
        if self.editable_mode:
            return  # there the folders are found where they stand
        for name in SHIPPED:
            source, target = Path(name), Path(self.build_lib, "hf_gland", "shipped", name)
            shutil.rmtree(target, ignore_errors=True)
            target.parent.mkdir(parents=True, exist_ok=True)
            if source.is_dir():
                shutil.copytree(source, target, ignore=LEFT_OUT)
            else:
                shutil.copy(source, target)


setup(cmdclass={"build_py": BuildWithShipped})
