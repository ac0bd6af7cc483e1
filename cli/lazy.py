"""Commands that are made when they are used: reading the options of twenty takes longer than one takes to run.

A group's help needs their names and what they do, no more.
"""

from __future__ import annotations

import importlib
import importlib.util
import inspect
from collections.abc import Callable, Mapping
from typing import Any

import typer
from typer.core import TyperCommand, TyperGroup

from cli.extras import advice, missing_at_once
from repstream.errors import SettingsError


class LazyCommand(TyperCommand):
    """A command that gets its options, and what calls its function, when its options are first asked for."""

    def __init__(self, name: str, function: Callable[..., Any]) -> None:
        super().__init__(name, callback=function, help=inspect.getdoc(function))
        self._function = function
        del self.params

    def __getattr__(self, name: str) -> Any:
        """Make the command whole at the first look at its options; there is nothing else that it lacks."""
        if name != "params":
            raise AttributeError(name, name=name, obj=self)
        alone = typer.Typer(add_completion=False)
        alone.command(self.name)(self._function)
        vars(self).update(vars(typer.main.get_command(alone)))
        return self.params

    def invoke(self, ctx: Any) -> Any:
        """Run it, unless it lacks what it will need later."""
        if missing := missing_at_once(str(self.name)):
            raise ModuleNotFoundError(name=missing)
        return super().invoke(ctx)


def group_of(modules: Mapping[str, str]) -> type[TyperGroup]:
    """Return a group of commands beside those that are added to it.

    Parameters
    ----------
    modules : mapping
        The module of each command, which has a function of its name. One whose package is not there, as an image
        holds its own service's alone, is left out.
    """

    class Commands(TyperGroup):
        """Says in one line which package a command lacks."""

        def __init__(self, *, commands: Any = None, **attributes: Any) -> None:
            ours = {
                name: LazyCommand(name, getattr(importlib.import_module(module), name))
                for name, module in modules.items()
                if importlib.util.find_spec(module.partition(".")[0]) is not None
            }
            super().__init__(commands={**ours, **(commands or {})}, **attributes)

        def invoke(self, ctx: Any) -> Any:
            """Run the command that was asked for."""
            try:
                return super().invoke(ctx)
            except ModuleNotFoundError as error:
                if said := advice(str(error.name), str(ctx.invoked_subcommand)):
                    raise SettingsError(said) from error
                raise

    return Commands
