"""What must not load torch does not, and the public names are there."""

import json
import subprocess
import sys

import pytest


def run(code):
    """The code in a process of its own; the last line that it prints."""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip().splitlines()[-1]


LIGHT = (
    "detbalance",
    "detbalance.catalog",
    "detbalance.chips",
    "detbalance.data.readers",
    "detbalance.diagnosis",
    "detbalance.diagnosis.anchor_design",
    "detbalance.recipe",
    "detbalance.report",
    "detbalance.cli",
)


@pytest.mark.parametrize("module", LIGHT)
def test_without_torch(module):
    heavy = "[m for m in ('torch', 'torchvision', 'lightning_fabric') if m in sys.modules]"
    assert run(f"import sys, {module}; print({heavy})") == "[]"


def test_importing_the_package_imports_nothing_heavy():
    heavy = "[m for m in ('numpy', 'scipy', 'plotly', 'hotcoco') if m in sys.modules]"
    assert run(f"import sys, detbalance; print({heavy})") == "[]"


USE = """
import importlib, json, pkgutil, sys
import detbalance
result = {"torch at first": "torch" in sys.modules}
for file in pkgutil.iter_modules(detbalance.__path__):
    importlib.import_module("detbalance." + file.name)
functions = ("attach", "compare", "diagnose", "read")
result["hidden"] = [name for name in functions if not callable(getattr(detbalance, name, None))]
from detbalance import *
result["missing"] = [name for name in detbalance.__all__ if name not in globals() or name not in dir(detbalance)]
print(json.dumps(result))
"""


@pytest.fixture(scope="module")
def used():
    """What one process finds that loads every module and then every public name."""
    return json.loads(run(USE))


def test_names_load_when_used(used):
    assert not used["torch at first"]


def test_star_import_gives_every_public_name(used):
    assert used["missing"] == []


def test_functions_are_not_hidden_by_modules(used):
    """Importing `detbalance.x` must not replace a public function of the same name by the module."""
    assert used["hidden"] == []


def test_unknown_name():
    import detbalance

    with pytest.raises(AttributeError, match="'detbalance' has no attribute 'nothing'"):
        detbalance.nothing  # noqa: B018
