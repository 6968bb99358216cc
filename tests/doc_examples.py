"""The examples of docs/extending.md, a section and a block of Python for each part that can be one's own."""

from __future__ import annotations

import importlib
import re
from pathlib import Path
from types import ModuleType

import pytest

PAGE = Path(__file__).parent.parent / "docs" / "extending.md"


def examples() -> dict[str, str]:
    """The Python of each section that has some, by heading."""
    sections = re.split(r"^## (.+)$", PAGE.read_text(), flags=re.MULTILINE)[1:]
    blocks = {
        heading: re.findall(r"^```python\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)
        for heading, text in zip(sections[::2], sections[1::2], strict=True)
    }
    assert all(len(code) <= 1 for code in blocks.values()), "a section shows two examples"
    return {heading: code[0] for heading, code in blocks.items() if code}


def module_of(section: str, folder: Path, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """The example of a section as a user has it: a module in the folder that he works in."""
    name = f"limbeck_example_{section.lower().replace(' ', '_')}"
    (folder / f"{name}.py").write_text(examples()[section])
    monkeypatch.chdir(folder)
    monkeypatch.syspath_prepend(str(folder))
    monkeypatch.delitem(importlib.import_module("sys").modules, name, raising=False)
    return importlib.import_module(name)
