"""One file, whole, that can load nothing and run nothing but its own scripts."""

import base64
import hashlib
import json
import os
import re
import subprocess
import sys

import numpy as np
import pytest

from detbalance import report
from detbalance.report.page import TABLE_ROWS, clean, embedded_json
from detbalance.report.wording import average, number, points, signed


def test_the_policy_allows_the_page_s_own_scripts_and_no_others(results):
    html = report.comparison_page(results)
    policy = re.search(r'Content-Security-Policy" content="([^"]+)"', html).group(1).replace("&#39;", "'")
    scripts = re.findall(r"<script>(.*?)</script>", html, re.DOTALL)
    hashes = [base64.b64encode(hashlib.sha256(s.encode()).digest()).decode() for s in scripts]
    assert len(scripts) == 3
    assert re.findall(r"'sha256-([^']+)'", policy) == hashes
    assert "default-src 'none'" in policy
    assert "unsafe-eval" not in policy
    assert "'unsafe-inline'" not in re.search(r"script-src[^;]+", policy).group()


def test_nothing_in_the_page_points_outside(results):
    html = report.comparison_page(results)
    own = re.sub(r"<script>.*?</script>", "", html, flags=re.DOTALL)
    assert not re.search(r"(src|href)\s*=\s*[\"']?(https?:)?//", own)
    assert not re.search(r"url\(|@import", own)


def test_embedded_json_cannot_close_its_element():
    hostile = {"</script><script>": ["<!--", "&amp;", "\u2028"]}
    text = str(embedded_json(hostile))
    assert not set("<>&\u2028") & set(text)
    assert json.loads(text) == hostile


def test_clean_leaves_what_json_can_carry():
    value = {1: np.float32("nan"), "a": (np.int64(3), np.array([1.0, np.inf])), "b": True, "c": None}
    assert clean(value) == {"1": None, "a": [3, [1.0, None]], "b": True, "c": None}
    json.dumps(clean(value), allow_nan=False)


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (np.float32("nan"), "–"),
        (np.int64(1000), "1,000"),
        (-2.5, "−2.5"),
        (True, "True"),
        (0, "0"),
        (1.23e-5, "0.0000123"),
        (1e-12, "1e−12"),
    ],
)
def test_number(value, text):
    assert number(value) == text


def test_points_are_rounded_alike_everywhere():
    assert points(0.52349) == "52.3"
    assert signed(-0.0149) == "−1.5"
    assert signed(0.0001) == signed(-0.0001) == "0.0"
    assert signed(None) == points(float("nan")) == "–"


def test_an_average_has_its_spread_where_there_is_one():
    assert average({"mean": 0.5, "spread": 0.0123}) == "50.0 ± 1.2"
    assert average({"mean": 0.5, "spread": None}) == "50.0"
    assert average({}) == average(None) == "–"


def test_save_writes_whole_or_not_at_all(tmp_path, monkeypatch):
    path = report.save("first \ud800", tmp_path / "new" / "page.html")
    assert path.read_text("utf-8") == "first ?"

    def broken(*_):
        raise OSError("disk full")

    monkeypatch.setattr(os, "replace", broken)
    with pytest.raises(OSError, match="disk full"):
        report.save("second", path)
    assert path.read_text("utf-8") == "first ?"
    assert [p.name for p in path.parent.iterdir()] == ["page.html"]


def test_long_tables_are_cut_and_say_so(results):
    rows = TABLE_ROWS + 1
    run = results["recipes"]["baseline"]["runs"][0]
    results["recipes"] = {"baseline": {"runs": [run], "false_positives": {}}}
    results["recipes"]["baseline"]["false_positives"] = {"threshold": list(range(rows)), "per_image": [1.0] * rows}
    html = report.comparison_page(results)
    assert f"The first {TABLE_ROWS} of {rows} rows" in html


def test_neither_torch_nor_plotly_s_figures_are_imported():
    code = (
        "import sys, detbalance.report as r; r.comparison_page({'recipes': {}}); "
        "sys.exit(bool({'torch', 'plotly.graph_objects', 'matplotlib'} & set(sys.modules)))"
    )
    assert subprocess.run([sys.executable, "-c", code], timeout=60).returncode == 0


def test_importing_the_package_imports_nothing_heavy():
    code = "import sys, detbalance.report; sys.exit(bool({'jinja2', 'plotly', 'numpy', 'PIL'} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", code], timeout=60).returncode == 0
