"""The site builds without a warning, and links work on a git host, too."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

import proxygraph
from tests.docs.blocks import PAGES, ROOT, anchors, links


def test_the_site_builds_without_a_warning(tmp_path: Path) -> None:
    pytest.importorskip("furo", reason="the site needs the extra docs")
    command = [sys.executable, "-m", "sphinx", "-b", "html", "-W", "--keep-going", "-n", "-q"]
    done = subprocess.run(
        [*command, str(ROOT / "docs"), str(tmp_path / "site")],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=600,
    )
    assert done.returncode == 0, done.stderr
    page = (tmp_path / "site" / "api.html").read_text()
    for name in ("proxygraph.parse", "proxygraph.SymbolicRegressor.fit", "segspace.search.study.explore"):
        assert f'id="{name}"' in page
    assert (tmp_path / "site" / "search.html").read_text().count("searchindex.js") == 1


def test_the_reference_has_every_public_name() -> None:
    listed = (ROOT / "docs" / "api.md").read_text()
    missing = [name for name in proxygraph.__all__ if not re.search(rf"proxygraph\.(\w+\.)?{name}\b", listed)]
    assert not missing


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_somewhere(page: Path) -> None:
    for line, target in links(page):
        if target.startswith(("http://", "https://", "mailto:")):
            continue
        path, _, anchor = target.partition("#")
        place = (page.parent / path).resolve() if path else page
        assert place.exists(), f"{page.name}:{line}: there is no {target}"
        assert place.is_relative_to(ROOT), f"{page.name}:{line}: {target} is outside of the repository"
        if anchor:
            assert anchor in anchors(place), f"{page.name}:{line}: no heading #{anchor} in {place.name}"
