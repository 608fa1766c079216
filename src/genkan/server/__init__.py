"""The processes of `bentoml serve`: how they begin, take connections, drain, are replaced, and end."""
