"""Where results that can be made again are kept between runs."""

from __future__ import annotations

import os
from pathlib import Path


def cache_folder() -> Path:
    """Return the user's cache folder of this program (it may not exist yet).

    The environment variable ``PROXYGRAPH_CACHE`` names it; else it follows ``XDG_CACHE_HOME``.
    """
    named = os.environ.get("PROXYGRAPH_CACHE")
    if named:
        return Path(named)
    base = os.environ.get("XDG_CACHE_HOME")
    return (Path(base) if base else Path.home() / ".cache") / "proxygraph"
