"""``genkan cache``: the score of the semantic cache, fitted and tried; what is stored, counted and purged."""

from importlib import import_module

import click

_COMMANDS = {
    "calibrate": "genkan.cli.cache_calibrate",
    "eval": "genkan.cli.cache_eval",
    "purge": "genkan.cli.cache_answers",
    "stats": "genkan.cli.cache_answers",
}


class _Commands(click.Group):
    """Its commands are imported when they are called: they bring numpy in, which no other command waits for."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(_COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        module = _COMMANDS.get(cmd_name)
        if module is None:
            return None
        found = vars(import_module(module)).values()
        return next(one for one in found if isinstance(one, click.Command) and one.name == cmd_name)


@click.group(cls=_Commands)
def cache() -> None:
    """Stored answers, and the score that says which questions one answer serves."""
