"""Every block of code in the README and in docs/ runs, or says why not and names only what there is."""

import importlib
import io
import re
import sys
import tomllib
from collections.abc import Iterator
from contextlib import redirect_stdout
from functools import cache
from pathlib import Path

import pytest

from proxygraph import OPS, STATISTICS, unregister, unregister_leaf
from tests.docs.blocks import PAGES, ROOT, RUN, SHOWN, Block, Reader, blocks, commands, in_the_text

HARMLESS = {"cd", "git", ".", "export", "trtexec"}
ALL = [block for page in PAGES for block in blocks(page)]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
QUICK = [page for page in PAGES if any(_.language in RUN and not _.slow for _ in blocks(page))]
SLOW = [page for page in PAGES if any(block.slow for block in blocks(page))]


@pytest.fixture
def page_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Take away what a page leaves behind in this process: operators, statistics, modules, module paths."""
    operators, leaves = set(OPS), set(STATISTICS)
    monkeypatch.setattr(sys, "path", list(sys.path))
    yield
    for name in set(OPS) - operators:
        unregister(name)
    for name in set(STATISTICS) - leaves:
        unregister_leaf(name)
    for name, module in list(sys.modules.items()):
        if str(getattr(module, "__file__", None)).startswith((str(tmp_path), "runs")):
            del sys.modules[name]


@pytest.mark.parametrize("page", QUICK, ids=lambda page: page.name)
def test_the_quick_blocks_of_a_page_run(page: Path, tmp_path: Path, page_alone: None) -> None:
    _read(page, tmp_path, slow=False)


@pytest.mark.slow
@pytest.mark.parametrize("page", SLOW, ids=lambda page: page.name)
def test_all_blocks_of_a_page_run(page: Path, tmp_path: Path, page_alone: None) -> None:
    _read(page, tmp_path, slow=True)


def _read(page: Path, folder: Path, *, slow: bool) -> None:
    (folder / "page").mkdir()
    reader = Reader(folder / "page")
    skipped = False
    for block in blocks(page):
        if block.mark == "output" and skipped:
            continue
        skipped = block.slow and not slow
        if not skipped:
            reader.read(block)


@pytest.mark.parametrize("block", ALL, ids=lambda block: block.place)
def test_a_block_says_what_it_is(block: Block) -> None:
    assert block.language in (*RUN, *SHOWN) or block.language.startswith("{"), (
        f"{block.place}: language {block.language!r}; sh and python run, {', '.join(SHOWN)} are shown"
    )
    if block.reason is not None:
        assert len(block.reason.split()) > 1, f"{block.place}: say why it is not run"
    if block.language == "python":
        compile(block.code, block.place, "exec")
    if block.language in SHOWN:
        hidden = re.search(r"^\s*(\$ )?(python3? -m|pip install|make \w)", block.code, re.MULTILINE)
        assert not hidden, f"{block.place}: a command in a block that is not run; call it sh"


@pytest.mark.parametrize(
    "block",
    [block for block in ALL if block.language == "sh"] + [_ for page in PAGES for _ in in_the_text(page)],
    ids=lambda block: block.place,
)
def test_commands_and_their_options_exist(block: Block) -> None:
    for words in commands(block.code):
        program, *rest = words
        if program in ("python", "python3") and rest[0] == "-m" and rest[1] == "pip":
            program, rest = "pip", rest[2:]
        if program in ("python", "python3") and rest[0] == "-m":
            _check_module(block, rest[1], rest[2:])
        elif program in ("python", "python3") and rest[0] == "-c":
            compile(rest[1], block.place, "exec")
        elif program in ("python", "python3"):
            _check_script(block, rest[0], rest[1:])
        elif program == "pip":
            _check_extras(block, rest)
        elif program == "make":
            _check_targets(block, rest)
        elif program in PROJECT["scripts"]:
            module = PROJECT["scripts"][program].partition(":")[0].removesuffix(".__main__")
            _check_module(block, module, rest, program)
        else:
            assert program in HARMLESS, f"{block.place}: what is {program!r}?"


def _options(words: list[str]) -> list[str]:
    return [found[1] for word in words if (found := re.fullmatch(r"(--[a-z][a-z-]*)(=.*)?", word))]


def _check_module(block: Block, module: str, words: list[str], program: str = "") -> None:
    if module == "pytest":
        return
    assert module.startswith(("proxygraph.", "segspace.")), f"{block.place}: what is {module}?"
    options = _options(words)
    first = words[0] if words else ""
    command = first if re.fullmatch(r"[a-z]+", first) and "COMMAND" in _help(module) else ""
    known = _help(module, command, program)
    missing = [option for option in options if not re.search(rf"(?<![\w-]){option}(?![\w-])", known)]
    assert not missing, f"{block.place}: python -m {module} {first} has no {', '.join(missing)}"


@cache
def _help(module: str, command: str = "", program: str = "") -> str:
    """Return what --help of a command prints, called by ``python -m`` or as an installed script."""
    found = importlib.import_module(module)
    if hasattr(found, "__path__"):
        found = importlib.import_module(f"{module}.__main__")
    with pytest.MonkeyPatch.context() as patch, redirect_stdout(io.StringIO()) as printed:
        patch.setenv("COLUMNS", "200")
        patch.setattr(sys, "argv", [program or module, *([command] if command else []), "--help"])
        with pytest.raises(SystemExit) as ended:
            found.main()
    assert not ended.value.code, printed.getvalue()
    return printed.getvalue()


def _check_script(block: Block, script: str, words: list[str]) -> None:
    path = ROOT / script
    assert path.is_file(), f"{block.place}: there is no {script}"
    source = path.read_text() + (ROOT / "benchmarks" / "common.py").read_text()
    source += "".join(other.read_text() for other in path.parent.glob(f"{path.stem}_*.py"))
    for option in _options(words):
        spelt = (f'"{option}"', option.removeprefix("--").replace("-", "_") + ":")
        assert any(form in source for form in spelt), f"{block.place}: {script} has no {option}"


def _check_extras(block: Block, words: list[str]) -> None:
    extras = PROJECT["optional-dependencies"]
    for word in words:
        if found := re.fullmatch(r"(?:proxygraph|\.)\[([\w,]+)\]", word):
            unknown = set(found[1].split(",")) - set(extras)
            assert not unknown, f"{block.place}: no extra {', '.join(unknown)}"


def _check_targets(block: Block, words: list[str]) -> None:
    targets = re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE)
    unknown = [word for word in words if "=" not in word and word not in targets]
    assert not unknown, f"{block.place}: no target {', '.join(unknown)} in the Makefile"
