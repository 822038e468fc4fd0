"""Running the system's own tools, whose errors say which command failed and how."""

import subprocess
from collections.abc import Iterable, Mapping

from microopt.errors import ConfigError

_WITHIN_S = 30.0


def run(*command: str, given: str = "", environment: Mapping[str, str] | None = None) -> str:
    """Return what a command prints.

    Raises:
        ConfigError: it is not installed, fails, or does not end.
    """
    try:
        done = subprocess.run(
            command, input=given, capture_output=True, text=True, timeout=_WITHIN_S, env=environment, check=False
        )
    except FileNotFoundError as error:
        raise ConfigError(f"{command[0]} is not installed; scripts/setup.sh names the packages") from error
    except subprocess.TimeoutExpired as error:
        raise ConfigError(f"{' '.join(command)}: not done within {_WITHIN_S:g} s") from error
    if done.returncode != 0:
        raise ConfigError(f"{' '.join(command)}: {done.stderr.strip() or done.returncode}")
    return done.stdout


def ip(lines: Iterable[str], namespace: str | None = None) -> None:
    """Give `ip` lines to do, in a network namespace that has a name, or in this process's own."""
    where = ["-n", namespace] if namespace else []
    run("ip", *where, "-batch", "-", given="".join(f"{line}\n" for line in lines))
