"""Help, examples, option names and completion of every command, as a newcomer meets them."""

from __future__ import annotations

import os
import pty
import re
import shlex
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from functools import cache
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest
import typer

from proxygraph import command_help
from proxygraph.command import Pace, application, duration, next_steps
from tests.test_import_cost import heavy_modules_after

ROOT = Path(__file__).resolve().parent.parent
DIFFERENT = {
    "--batches",
    "--classes",
    "--data",
    "--format",
    "--networks",
    "--out",
    "--population",
    "--processes",
    "--seed",
    "--size",
    "--space",
    "--table",
    "--threads",
    "--time-budget",
    "--batch",
}
"""Options whose help says what they are of in that command."""


def modules() -> list[str]:
    """Every module that runs a command, found in the sources: none is forgotten."""
    found = []
    for path in sorted([*ROOT.glob("proxygraph/**/*.py"), *ROOT.glob("segspace/**/*.py")]):
        if re.search(r'\brun_command\(\s*\w+, "python -m', path.read_text(encoding="utf-8")):
            found.append(".".join(path.relative_to(ROOT).with_suffix("").parts))
    return found


MODULES = modules()


@cache
def command_of(module: str) -> tuple[str, Any]:
    """The name by which a module is run, and its command line parser."""
    asked: list[tuple[Any, ...]] = []
    loaded = import_module(module)
    original = loaded.run_command
    loaded.run_command = lambda *args, **named: asked.append(args)
    try:
        loaded.main()
    finally:
        loaded.run_command = original
    ((command, name, *more),) = asked
    return name, typer.main.get_command(application(command, *more))


def commands() -> Iterator[tuple[str, Any]]:
    """Every command, those of a group too, with how it is called."""
    for module in MODULES:
        name, command = command_of(module)
        for word, one in getattr(command, "commands", {"": command}).items():
            yield f"{name} {word}".strip(), one


COMMANDS = dict(commands())


def options(command: Any) -> list[Any]:
    return [param for param in command.params if param.name != "help"]


def test_all_are_found() -> None:
    assert {
        "python -m proxygraph.evolve",
        "python -m proxygraph.export",
        "python -m proxygraph.report",
        "python -m proxygraph.score",
        "python -m segspace.latency check",
        "python -m segspace.oneshot rank",
        "python -m segspace.search",
        "python -m segspace.train",
    } <= set(COMMANDS)
    scripts = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["scripts"]
    called = {module: command_of(module)[0].removeprefix("python -m ") for module in MODULES}
    of_their_own = {module: name for module, name in called.items() if name.count(".") == 1}
    assert scripts == {name.replace(".", "-"): f"{module}:main" for module, name in of_their_own.items()}


@pytest.mark.parametrize("name", COMMANDS)
def test_every_option_is_explained(name: str) -> None:
    for param in options(COMMANDS[name]):
        assert param.help, param.name
        assert param.help.endswith("."), param.name
        assert param.metavar or param.is_flag, param.name
        assert not getattr(param, "secondary_opts", None), param.name  # no --no-resume


@pytest.mark.parametrize("name", COMMANDS)
def test_examples_are_commands(name: str) -> None:
    command = COMMANDS[name]
    words, examples = command_help.parts_of(command.help)
    assert words
    assert examples
    for example in examples:
        called, rest = example[: len(name)], shlex.split(example[len(name) :])
        assert called == name
        with command.make_context(name, rest) as context:  # options exist, what is required is there
            assert context.params


def test_score_takes_every_proxy_of_the_zoo() -> None:  # those that were found are not made by hand
    (formula,) = [param for param in COMMANDS["python -m proxygraph.score"].params if param.name == "formula"]
    assert "name of a proxy of the zoo" in formula.help


def test_one_name_one_meaning() -> None:
    said: dict[str, set[str]] = {}
    for command in COMMANDS.values():
        for param in options(command):
            for option in getattr(param, "opts", []) if param.param_type_name == "option" else []:
                said.setdefault(option, set()).add(param.help)
    assert {
        option: helps for option, helps in said.items() if len(helps) > 1 and option not in DIFFERENT
    } == {}


def shown(module: str, *words: str, terminal: bool = False, **environment: str) -> str:
    """What a command prints, on a terminal or into a pipe."""
    env = {k: v for k, v in os.environ.items() if k not in ("NO_COLOR", "FORCE_COLOR", "TERM")}
    env |= {"TERM": "xterm", "COLUMNS": "90", **environment}
    call = [sys.executable, "-m", module, *words]
    if not terminal:
        done = subprocess.run(call, env=env, capture_output=True, text=True, timeout=120, check=True)
        return done.stdout
    ours, theirs = pty.openpty()
    process = subprocess.Popen(call, env=env, stdout=theirs, stderr=theirs)
    os.close(theirs)
    out = b""
    try:
        while chunk := os.read(ours, 4096):
            out += chunk
    except OSError:  # the other side is closed
        pass
    finally:
        os.close(ours)
    assert process.wait(timeout=120) == 0
    return out.decode()


def test_help_is_grouped_whole_and_coloured_on_a_terminal_only() -> None:
    plain = shown("segspace.train", "--help")
    assert "\x1b" not in plain
    headings = re.findall(r"^(\w[\w ]*):$", plain, re.MULTILINE)
    assert headings == [
        "Arguments",
        "Data and pictures",
        "Training",
        "Teacher",
        "Machine",
        "Files",
        "Options",
    ]
    (example,) = (line for line in plain.splitlines() if line.startswith("  Example: "))
    assert example.endswith("--out runs/street")  # in one line, however long
    bright = shown("segspace.train", "--help", terminal=True)
    assert "\x1b[1mTraining\x1b[0m:" in bright
    assert "\x1b" not in shown("segspace.train", "--help", terminal=True, NO_COLOR="1")


def test_help_of_a_group_lists_its_commands() -> None:
    help = shown("segspace.latency", "--help")
    for word in ("build", "predict", "check", "measure"):
        assert re.search(rf"^  {word} +[A-Z]", help, re.MULTILINE)


@pytest.mark.parametrize("module", MODULES)
def test_a_command_is_found_without_heavy_libraries(module: str) -> None:
    assert heavy_modules_after(f"import {module}") == []


SHELL = """
import sys
sys.argv = ["/usr/bin/{script}", *{words!r}]
from {module} import main
try:
    main()
finally:
    print(*(name for name in ("torch", "numba", "sympy", "optuna") if name in sys.modules), file=sys.stderr)
"""


def installed(module: str, words: list[str], **environment: str) -> str:
    """What an installed script prints."""
    script = command_of(module)[0].removeprefix("python -m ").replace(".", "-")
    source = SHELL.format(script=script, module=module, words=words)
    done = subprocess.run(
        [sys.executable, "-c", source],
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.stderr.strip() == "", done.stderr
    return done.stdout


@pytest.mark.parametrize(
    ("module", "line", "found"),
    [
        ("proxygraph.evolve", "strx", []),
        ("proxygraph.evolve", "stre", ["streetscenes"]),
        ("proxygraph.evolve", "--max-c", ["--max-cost", "--max-constants"]),
        ("proxygraph.export", "run --format ma", ["mathml"]),
        ("proxygraph.score", "sni", ["snip"]),
        ("segspace.search.__main__", "--runtime on", ["onnxruntime"]),
        ("segspace.search.__main__", "--space rtseg:t", ["rtseg:tiny"]),
        ("segspace.latency.__main__", "che", ["check"]),
    ],
)
def test_a_shell_completes_without_heavy_libraries(module: str, line: str, found: list[str]) -> None:
    script = command_of(module)[0].removeprefix("python -m ").replace(".", "-")
    variable = f"_{script.replace('-', '_').upper()}_COMPLETE"
    words = f"{script} {line}"
    environment = {variable: "complete_bash", "COMP_WORDS": words, "COMP_CWORD": str(len(words.split()) - 1)}
    assert sorted(installed(module, [], **environment).split()) == sorted(found)


def test_installed_scripts_show_their_completion() -> None:
    script = installed(
        "segspace.search.__main__",
        ["--show-completion", "bash"],
        _TYPER_COMPLETE_TEST_DISABLE_SHELL_DETECTION="1",
    )
    assert "complete -o default -F _segspace_search_completion segspace-search" in script
    assert "_SEGSPACE_SEARCH_COMPLETE=complete_bash" in script
    assert "completion" not in shown("segspace.search", "--help")  # a shell cannot complete after `python -m`


def test_words_completed_are_words_that_exist() -> None:
    from proxygraph import evolve_options, export, objective
    from segspace import options as shared
    from segspace.latency.runtimes import RUNTIMES
    from segspace.latency.table import STATISTICS

    assert tuple(RUNTIMES) == shared.RUNTIMES
    for name in evolve_options.OBJECTIVES:
        assert objective.find_objective(f"{name}3" if name.endswith(":") else name).name
    assert set(export.FORMATS) >= {"text", "latex", "mathml", "python", "torch", "sympy", "json", "dot"}
    assert set(STATISTICS) == {"median", "p10", "min"}


def test_pace_tells_rate_and_time_left() -> None:
    pace = Pace(10, 100.0)  # ten were done before
    assert pace.text(10, 100, 100.0) == ""
    assert pace.text(20, 100, 105.0) == "2/s, 40 s left"
    assert pace.text(100, 100, 145.0) == "2/s"
    assert pace.text(0, 8, 200.0) == ""  # the next of that name begins
    assert pace.text(4, 8, 208.0) == "2.0 s each, 8.0 s left"
    assert Pace(0, 0.0).text(1, 4, 90.0) == "1:30 each, 4:30 left"
    assert [duration(s) for s in (0.04, 9.96, 59.4, 60, 7384.6)] == [
        "0.0 s",
        "10 s",
        "59 s",
        "1:00",
        "2:03:05",
    ]


def test_next_steps_are_lines_to_copy(capsys: pytest.CaptureFixture[str]) -> None:
    from proxygraph.command import console

    long = "do it: python -m x " + "--option [bold]value[/bold] " * 10
    next_steps(console(), long)
    assert capsys.readouterr().out == long + "\n"
