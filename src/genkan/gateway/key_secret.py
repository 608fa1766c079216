"""The secret under which API keys are hashed: from the environment, else from a file of our own."""

import logging
import os
import secrets
from collections.abc import Mapping
from pathlib import Path

from genkan.config import Config
from genkan.errors import ConfigError

MIN_CHARS = 32
_FILE = "keys.secret"
_log = logging.getLogger("genkan.keys")


def load_secret(environ: Mapping[str, str], config: Config) -> bytes:
    """The secret: from the variable that ``keys.secret_env`` names, else from ``keys.secret`` in ``redis.data_dir``.

    The file is made by whoever comes first, for this user's eyes only. With Redis in memory keys end with the process,
    so their secret does too. Logs a warning where replicas elsewhere could not read the file. Raises ConfigError for a
    secret that is too short, and for a file that cannot be read or made; the secret is in no message.
    """
    variable = config.keys.secret_env
    given = environ.get(variable)
    if given is not None:
        return _checked(given.encode("utf-8", "surrogateescape"), "keys.secret_env", variable)
    if config.redis.url == "memory" and config.redis.url_env is None:
        return secrets.token_hex(MIN_CHARS).encode()
    if config.redis.url != "embedded" or config.redis.url_env is not None:
        _log.warning(
            "API keys are hashed under a secret of this machine; replicas on others need the same one in %s", variable
        )
    return _from_file(Path(config.redis.data_dir) / _FILE)


def _from_file(path: Path) -> bytes:
    try:
        if not path.exists():
            _make(path)
        return _checked(path.read_bytes().strip(), "redis.data_dir", str(path))
    except OSError as error:
        raise ConfigError("redis.data_dir", f"cannot keep the keys' secret in {path}: {error.strerror}") from None


def _make(path: Path) -> None:
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    draft = path.with_name(f"{path.name}.{secrets.token_hex(8)}")
    try:
        with open(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
            file.write(secrets.token_hex(MIN_CHARS).encode())
            file.flush()
            os.fsync(file.fileno())  # keys that were handed out under it are lost with it
        os.link(draft, path)  # whole or not at all, and never over another's
    except FileExistsError:
        pass  # another process was first
    finally:
        draft.unlink(missing_ok=True)


def _checked(secret: bytes, setting: str, place: str) -> bytes:
    if len(secret) < MIN_CHARS:
        raise ConfigError(setting, f"the secret in {place} must have at least {MIN_CHARS} characters")
    return secret
