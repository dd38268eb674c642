"""The shell of a report: templates filled in, style and script put inside, nothing fetched from anywhere."""

from __future__ import annotations

import base64
import hashlib
import webbrowser
from collections.abc import Sequence
from importlib.resources import files
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Final

from proxygraph.errors import BackendUnavailable, ConfigError
from proxygraph.run import RunFolder

PACKAGE: Final = "proxygraph.report"


def page(
    template: str, package: str = PACKAGE, *, style: str = "", pictures: bool = False, **content: Any
) -> str:
    """Return a page.

    Parameters
    ----------
    template : str
        File in the folder ``templates`` of `package`, made on top of ``base.html``. Text is escaped unless it
        is `markupsafe.Markup`; `data` is what the script gets, as JSON.
    package : str
        Whose templates are looked up first.
    style : str
        Rules of this kind of page, after those of all.
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
    styles, script = f"\n{asset('colours.css')}{asset('report.css')}{style}", "\n" + asset("report.js")
    shell = {
        "style": Markup(styles),
        "script": Markup(script),
        "policy": f"default-src 'none'; style-src '{_digest(styles)}'; script-src '{_digest(script)}'; "
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


def check_target(out: Path, made: Sequence[Path]) -> Path:
    """Return where a page is to be written; `ConfigError` if it cannot be, before anything is read.

    Folders in `made` need not be there yet: reading them says what is wrong.
    """
    if out.suffix.lower() not in (".html", ".htm"):
        raise ConfigError(f"--out {out}: the report is HTML; give a file that ends in .html")
    if out.parent not in made and not out.parent.is_dir():
        raise ConfigError(f"--out {out}: there is no folder {out.parent}")
    return out


def write_page(out: Path, content: str, *, show: bool) -> None:
    """Write a page and say so; show it in the browser if asked to."""
    RunFolder(out.parent).write(out.name, content)
    print(f"report: {out} ({len(content.encode()) / 1000:.0f} kB)")
    if show and not webbrowser.open(out.resolve().as_uri()):
        print("no browser could be started; open the file yourself")


def asset(name: str, package: str = PACKAGE) -> str:
    """Return a file of a package's folder ``static``."""
    return (files(package) / "static" / name).read_text(encoding="utf-8")


def _digest(text: str) -> str:
    return "sha256-" + base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
