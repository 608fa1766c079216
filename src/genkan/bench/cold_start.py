"""From nothing to the first token: a fresh process that imports, loads the model and answers."""

import asyncio
import subprocess
import sys
import time

from genkan.errors import EngineFailed


def measure_s(profile: str) -> float:
    """Seconds from the start of a fresh Python process to its first token, seen from outside.

    The model file is in the page cache, as it is for the second process on a machine. Raises EngineFailed when the
    process ends without a token.
    """
    began = time.perf_counter()
    command = [sys.executable, "-m", "genkan.bench.cold_start", profile]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as process:  # noqa: S603 - our own module
        assert process.stdout is not None
        line = process.stdout.readline()
        elapsed_s = time.perf_counter() - began
    if not line or process.returncode != 0:
        raise EngineFailed(f"a fresh process answered nothing and ended with {process.returncode}")
    return elapsed_s


def main(profile: str) -> None:
    """Load the default model, print its first token's id, end."""
    # Imported here, so that importing this module to measure costs no one anything.
    from genkan.bench.load import answer, serving
    from genkan.bench.workload import Request
    from genkan.engine.config import EngineConfig
    from genkan.engine.model_runner import ModelRunner

    config = EngineConfig.model_validate({"profile": profile})
    with serving(ModelRunner(config), config) as engine:
        print(asyncio.run(answer(engine, Request([20, 21, 22, 23], output_tokens=1))).ids[0], flush=True)


if __name__ == "__main__":
    main(sys.argv[1])
