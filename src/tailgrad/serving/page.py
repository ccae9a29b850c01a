"""The page at `/`: a prompt, its candidates and their rewards. It loads nothing, and no text in it can run."""

from __future__ import annotations

import base64
import hashlib
import re
from functools import cache
from importlib.resources import files


@cache
def page() -> str:
    """Return the page."""
    return files("tailgrad.serving").joinpath("page.html").read_text(encoding="utf-8")


@cache
def headers() -> dict[str, str]:
    """Return what tells a browser to let only the page's own style and script act, and in no other page's frame."""
    script, style = (_hash(re.findall(rf"<{tag}>(.*?)</{tag}>", page(), re.DOTALL)[0]) for tag in ("script", "style"))
    policy = (
        f"default-src 'none'; script-src {script}; style-src {style}; connect-src 'self'; base-uri 'none'; "
        "form-action 'none'; frame-ancestors 'none'"
    )
    return {
        "Content-Security-Policy": policy,
        "Referrer-Policy": "no-referrer",
        "X-Content-Type-Options": "nosniff",
        "Cache-Control": "no-cache",
    }


def _hash(text: str) -> str:
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"
