"""A model's file or folder, opened by what it is."""

from pathlib import Path
from typing import Any

from genkan.engine.load import folder, gguf
from genkan.engine.models.decoder import Decoder
from genkan.engine.models.folder_decoder import architecture_of, folder_decoder, is_known
from genkan.engine.models.gguf_decoder import gguf_decoder


def opened(path: Path) -> tuple[Decoder | None, dict[str, Any]]:
    """The model in ``path``, and the key-values of a GGUF file; nothing for a folder.

    None for a folder whose architecture the engine does not have itself: transformers may. Raises ModelFileError.
    """
    if not path.is_dir():
        file = gguf.read(path)
        return gguf_decoder(file), file.metadata
    if not is_known(architecture_of(folder.read_config(path))):
        return None, {}
    return folder_decoder(folder.read(path)), {}
