"""The HTTP face: paths, bodies, headers and error bodies. Knows ASGI; knows nothing of models."""
