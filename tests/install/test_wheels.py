"""The libraries of the package are those of the locked list, for both Pythons, and nothing else gets in."""

from __future__ import annotations

import hashlib
import importlib.util
import zipfile
from pathlib import Path
from types import ModuleType

import pytest

TOP = Path(__file__).parents[2]


def load(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(name, TOP / "deb" / f"{name}.py")
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


wheels = load("wheels")
LOCKED = TOP / "requirements" / "run.txt"


def test_each_python_gets_what_its_markers_say() -> None:
    old, new = (set(wheels.entries(LOCKED.read_text(), python)) for python in wheels.PYTHONS)
    assert new - old == {"pyasyncore", "pyasynchat"}, "gone from Python 3.12 on"
    assert "colorama" not in old | new, "only for another system"
    assert {"pydantic-core", "pyftpdlib", "tftpy", "typer"} <= old


def test_a_file_with_another_sum_does_not_count(tmp_path: Path) -> None:
    good, bad = tmp_path / "a-1-py3-none-any.whl", tmp_path / "b-1-py3-none-any.whl"
    good.write_bytes(b"good")
    bad.write_bytes(b"changed on the way")
    sums = {"a": f"--hash=sha256:{hashlib.sha256(b'good').hexdigest()}", "b": f"--hash=sha256:{'0' * 64}"}
    assert wheels.checked(tmp_path, sums) == {"a": good}


def wheel(place: Path, **files: bytes) -> Path:
    with zipfile.ZipFile(place, "w") as archive:
        for name, content in files.items():
            archive.writestr(name.replace("__", "/").replace("_py", ".py"), content)
    return place


def test_compiled_parts_of_two_pythons_lie_side_by_side_and_a_contradiction_is_refused(tmp_path: Path) -> None:
    first = wheel(tmp_path / "1.whl", **{"core__a.cpython-311.so": b"1", "core__x_py": b"same"})
    second = wheel(tmp_path / "2.whl", **{"core__a.cpython-313.so": b"2", "core__x_py": b"same"})
    third = wheel(tmp_path / "3.whl", **{"core__x_py": b"other"})
    wheels.unpack(first, tmp_path / "t")
    wheels.unpack(second, tmp_path / "t")
    assert sorted(p.name for p in (tmp_path / "t/core").iterdir()) == ["a.cpython-311.so", "a.cpython-313.so", "x.py"]
    with pytest.raises(SystemExit, match=r"has another core/x\.py"):
        wheels.unpack(third, tmp_path / "t")
