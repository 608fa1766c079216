"""``genkan drain``: have the server on this machine be left alone before it is stopped."""

import os
import sys
import time
from pathlib import Path

import click

from genkan.config import ServerConfig, config_path, load
from genkan.errors import ConfigError
from genkan.server.drain import FILE_VARIABLE, DrainPage, NoServer, is_served, now_unix_s, served_pages
from genkan.server.draining import Wait, wait_until_idle


@click.command()
@click.option("--wait", "waits", is_flag=True, help="Return when nothing is under way, or after the timeout, with 1.")
@click.option(
    "--timeout", "timeout_s", type=click.FloatRange(min=0), help="In seconds; server.drain.wait_s if not given."
)
@click.option("--undo", is_flag=True, help="Serve as before.")
@click.option("--pid", type=click.IntRange(min=1), help="Of which server, where several share the data folder.")
def drain(waits: bool, timeout_s: float | None, undo: bool, pid: int | None) -> None:
    """Have the server of this machine's configuration be left alone: /readyz is 503, and answers close connections.

    Whoever comes is served as before. It needs no key: it works on the server's own files, so it is for whoever may
    write them. Other replicas are not concerned. With --wait, it suits a preStop hook; SIGTERM comes after.
    """
    try:
        server, page = _found(pid)
    except (ConfigError, NoServer) as error:
        raise click.ClickException(str(error)) from None
    if undo:
        click.echo("serves as before" if page.undo() else "did not drain")
        return
    click.echo("drains" if page.begin(now_unix_s()) else "drains already")
    if waits:
        _tell(_waited(page, server, server.drain.wait_s if timeout_s is None else timeout_s))


def _waited(page: DrainPage, server: ServerConfig, wait_s: float) -> Wait:
    return wait_until_idle(page, notice_s=server.drain.notice_s, wait_s=wait_s, clock=now_unix_s, sleep=time.sleep)


def _tell(wait: Wait) -> None:
    if wait.is_idle:
        click.echo(f"nothing is under way, after {wait.waited_s:.1f} s")
        return
    left = f"{wait.requests} requests are under way" if wait.requests else "not all have noticed"
    click.echo(f"{left} after {wait.waited_s:.1f} s", err=True)
    sys.exit(1)


def _found(pid: int | None) -> tuple[ServerConfig, DrainPage]:
    """Of the one server that is meant. Raises ConfigError and NoServer."""
    config = load(config_path())
    told = os.environ.get(FILE_VARIABLE)
    if told:
        if not is_served(Path(told)):
            raise NoServer(f"no server runs with {FILE_VARIABLE}={told}")
        return config.server, DrainPage.open(Path(told))
    folder = Path(config.redis.data_dir)
    pages = [path for path in served_pages(folder) if pid is None or path.name.endswith(f"-{pid}")]
    if not pages:
        raise NoServer(f"no server{'' if pid is None else f' with process {pid}'} runs with its data in {folder}")
    if len(pages) > 1:
        pids = ", ".join(path.name.rpartition("-")[2] for path in pages)
        raise NoServer(f"several servers have their data in {folder}; say which by --pid: {pids}")
    return config.server, DrainPage.open(pages[0])
