"""The example of docs/core.md runs as it is printed, with torch and numpy alone, and restores something."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

DOCS = Path(__file__).parents[2] / "docs"
BLOCKED = (
    "import sys\nfor name in ('pydantic', 'lightning', 'zarr', 'xarray', 'pandas', 'tifffile', 'scipy', 'yaml'): sys.modules[name] = None\n"
)


def test_the_core_example_restores_with_an_honest_error_bar() -> None:
    found = re.search(r"```python\n(.*?)```", (DOCS / "core.md").read_text(encoding="utf-8"), re.DOTALL)
    assert found
    code = BLOCKED + found.group(1)
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=300)
    before, after, std = (float(number) for number in re.findall(r"\d+\.\d+", done.stdout))
    assert after < before / 4
    assert 0.5 < std / after**0.5 < 1.5
