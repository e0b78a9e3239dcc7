"""A template and its context become one HTML file: styles, scripts, charts and pictures inside, nothing outside."""

from __future__ import annotations

import base64
import hashlib
import json
import math
from collections.abc import Mapping
from datetime import datetime, timezone
from functools import lru_cache
from pathlib import Path
from typing import Any

import jinja2
from markupsafe import Markup, escape

from ..atomic import write_bytes
from .wording import average, interval, number, points, seconds, signed

__all__ = ["clean", "code", "embedded_json", "render", "save"]

TEMPLATES = Path(__file__).with_name("templates")
TABLE_ROWS = 500
"""rows of a data table that the page shows; the JSON output has them all"""


def render(template: str, *, script: str = "", **context: Any) -> str:
    """Fill a template; text is escaped, scripts and styles are inlined.

    The page forbids itself, by its content security policy, to load anything from anywhere and to run any script other
    than its own: neither a class name nor a picture can make it call home. `script` names one that only this page has.
    """
    own = [(TEMPLATES / name).read_text("utf-8") for name in ("theme.js", "report.js", *([script] if script else []))]
    scripts = [own[0], plotly_js(), *own[1:]]
    policy = "; ".join(
        (
            "default-src 'none'",
            "script-src " + " ".join(f"'sha256-{_digest(script)}'" for script in scripts),
            "style-src 'unsafe-inline'",
            "img-src data: blob:",
            "base-uri 'none'",
            "form-action 'none'",
        )
    )
    return (
        _environment()
        .get_template(template)
        .render(
            theme_js=Markup(scripts[0]),
            plotly_js=Markup(scripts[1]),
            report_js=Markup(scripts[2]),
            page_js=Markup("".join(scripts[3:])),
            style=Markup((TEMPLATES / "report.css").read_text("utf-8")),
            policy=policy,
            made=datetime.now(timezone.utc).strftime("%Y-%m-%d %H:%M UTC"),
            table_rows=TABLE_ROWS,
            **context,
        )
    )


@lru_cache(maxsize=1)
def plotly_js() -> str:
    """The charts' library, as the installed plotly carries it."""
    from plotly.offline import get_plotlyjs

    return get_plotlyjs()


@lru_cache(maxsize=4)
def _digest(script: str) -> str:
    return base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()


@lru_cache(maxsize=1)
def _environment() -> jinja2.Environment:
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(TEMPLATES),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    filters = {f.__name__: f for f in (average, points, signed, interval, number, seconds)}
    environment.filters |= filters | {"json": embedded_json, "code": code}
    return environment


def clean(value: Any) -> Any:
    """A value that JSON can carry: NumPy becomes Python, what is not finite becomes None.

    >>> clean({"a": (1.0, float("nan"))})
    {'a': [1.0, None]}
    """
    if isinstance(value, Mapping):
        return {str(key): clean(item) for key, item in value.items()}
    if hasattr(value, "tolist"):
        return clean(value.tolist())
    if isinstance(value, (list, tuple)):
        return [clean(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def embedded_json(value: Any) -> Markup:
    """JSON for a script element, which no text in it can close.

    >>> embedded_json("</script>")
    Markup('"\\\\u003c/script\\\\u003e"')
    """
    text = json.dumps(clean(value), separators=(",", ":"))
    return Markup(text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026"))


def code(text: Any) -> Markup:
    """Text in which a command between backticks is set as code.

    >>> code("first `train <x>`, then look")
    Markup('first <code>train &lt;x&gt;</code>, then look')
    """
    parts = [str(escape(part)) for part in str(text).split("`")]
    if len(parts) % 2 == 0:  # a backtick without its partner is a character like any other
        return Markup("`".join(parts))
    return Markup("".join(f"<code>{part}</code>" if i % 2 else part for i, part in enumerate(parts)))


def save(html: str, path: str | Path) -> Path:
    """Write a page, whole or not at all. A character that UTF-8 cannot carry becomes a question mark."""
    return write_bytes(path, html.encode("utf-8", "replace"))
