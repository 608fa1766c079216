"""The Engine process: text and OpenAI's shapes around the engine's token ids."""
