"""The shell of a report: templates filled in, style and script put inside, nothing fetched from anywhere."""

from __future__ import annotations

import base64
import hashlib
from importlib.resources import files
from importlib.util import find_spec
from typing import Any, Final

from proxygraph.errors import BackendUnavailable

PACKAGE: Final = "proxygraph.report"


def page(template: str, package: str = PACKAGE, *, pictures: bool = False, **content: Any) -> str:
    """Return a page.

    Parameters
    ----------
    template : str
        File in the folder ``templates`` of `package`, made on top of ``base.html``. Text is escaped unless it
        is `markupsafe.Markup`; `data` is what the script gets, as JSON.
    package : str
        Whose templates are looked up first.
    pictures : bool
        Allow pictures that are inside the page (``data:``).
    **content
        What the template names.

    Returns
    -------
    str
        HTML that needs no other file. Its content security policy allows the page's own style and script,
        by their hashes, and nothing else: no address can be called, whatever the content is.

    Raises
    ------
    BackendUnavailable
        If jinja2 is not installed.
    """
    check_packages()
    import jinja2
    from markupsafe import Markup

    loaders = [jinja2.PackageLoader(name) for name in dict.fromkeys((package, PACKAGE))]
    environment = jinja2.Environment(
        loader=jinja2.ChoiceLoader(loaders),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    style, script = _asset("report.css"), _asset("report.js")
    shell = {
        "style": Markup(style),
        "script": Markup(script),
        "policy": f"default-src 'none'; style-src '{_digest(style)}'; script-src '{_digest(script)}'; "
        f"base-uri 'none'; form-action 'none'{'; img-src data:' if pictures else ''}",
    }
    return environment.get_template(template).render(**shell, **content)


def check_packages() -> None:
    """Raise `BackendUnavailable` if what reports need beyond the base package is not installed."""
    missing = [name for name in ("jinja2", "latex2mathml") if find_spec(name) is None]
    if missing:
        raise BackendUnavailable(
            f"reports need {' and '.join(missing)}, not installed: pip install 'proxygraph[report]'"
        )


def _asset(name: str) -> str:
    """Return a file of the folder ``static``, as it stands between its tags."""
    return "\n" + (files(PACKAGE) / "static" / name).read_text(encoding="utf-8")


def _digest(text: str) -> str:
    return "sha256-" + base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
