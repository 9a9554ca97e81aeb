"""What a result says about its code and machine."""

import os
import re
import shutil
import subprocess

import pytest
import torch
import transformers

import hf_gland
from hf_gland import environment


def git(folder, *arguments):
    identity = ["-c", "user.name=t", "-c", "user.email=t@example.org", "-c", "commit.gpgsign=false"]
    return subprocess.run(["git", "-C", str(folder), *identity, *arguments], check=True, capture_output=True,
                          text=True).stdout.strip()


@pytest.fixture
def package(tmp_path, monkeypatch):
    """An `hf_gland` package in a fresh folder inside a repository that does not track it yet."""
    if shutil.which("git") is None:
        pytest.skip("git is not installed")
    folder = tmp_path / "hf_gland"
    folder.mkdir()
    (folder / "__init__.py").write_text("")
    monkeypatch.setattr(hf_gland, "__file__", str(folder / "__init__.py"))
    git(tmp_path, "init", "-q")
    return folder


def test_commit_of_a_clean_and_of_a_changed_clone(package):
    git(package, "add", "__init__.py")
    git(package, "commit", "-q", "-m", "first")
    head = git(package, "rev-parse", "HEAD")
    assert environment.git_commit() == head
    (package / "notes.txt").write_text("untracked files do not count")
    assert environment.git_commit() == head
    (package / "__init__.py").write_text("changed = True\n")
    assert environment.git_commit() == f"{head}-dirty"


def test_installed_copy_does_not_borrow_the_commit_around_it(package):
    (package.parent / "other.txt").write_text("x")
    git(package.parent, "add", "other.txt")
    git(package.parent, "commit", "-q", "-m", "someone else's project")
    assert environment.git_commit() == f"hf_gland-{hf_gland.__version__}"


def test_without_git_the_version_stands_in(monkeypatch):
    monkeypatch.setenv("PATH", "")
    assert environment.git_commit() == f"hf_gland-{hf_gland.__version__}"


def test_hardware_names_the_cores_this_process_may_use():
    words = environment.hardware("cpu")
    cores = int(re.fullmatch(r".+, (\d+) cores?", words).group(1))
    assert 1 <= cores <= os.cpu_count()


def test_hardware_tells_processors_apart_by_their_model_and_instructions(monkeypatch, tmp_path):
    """Two machines may both be called AMD EPYC and differ tenfold in speed."""
    (tmp_path / "cpuinfo").write_text("".join(
        f"processor\t: {i}\ncpu family\t: 25\nmodel\t\t: 17\nmodel name\t: AMD EPYC\nflags\t\t: fpu\n\n" for i in range(2)))
    monkeypatch.setattr(environment, "Path", lambda path: tmp_path / "cpuinfo")
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: {"avx2": True, "avx512_f": True, "avx512_bf16": True,
                                                                "amx_bf16": False, "cpu_name": "AMD EPYC"})
    assert environment.hardware("cpu").startswith("AMD EPYC (family 25, model 17; AVX2, AVX-512, AVX-512-BF16), ")
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: {"neon": True})
    (tmp_path / "cpuinfo").write_text("")
    assert "(NEON), " in environment.hardware("cpu")


def test_versions_are_those_of_the_libraries_that_compute():
    assert environment.versions() == {"torch": torch.__version__, "transformers": transformers.__version__}


def test_hardware_names_the_gpu(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda device: f"Model {device.index}")
    assert environment.hardware() == "Model None"
    assert environment.hardware("cuda:1") == "Model 1"
    assert environment.hardware("cpu") != "Model None"
