"""Texts to vectors: model files, their tokenizers, an encoder on torch, and the process that runs it."""
