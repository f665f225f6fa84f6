"""The files of the page, read once before the child is locked in."""

from __future__ import annotations

from importlib import resources

from appliance.board.server import Asset

_FILES = {
    "/": ("index.html", "text/html; charset=utf-8"),
    "/board.css": ("board.css", "text/css; charset=utf-8"),
    "/board.js": ("board.js", "text/javascript; charset=utf-8"),
    "/icon.svg": ("icon.svg", "image/svg+xml"),
    "/favicon.ico": ("icon.svg", "image/svg+xml"),
}


def load() -> dict[str, Asset]:
    """Path to asset. Raises OSError when the installation is damaged."""
    page = resources.files("appliance.board") / "page"
    return {path: Asset(kind, (page / name).read_bytes()) for path, (name, kind) in _FILES.items()}
