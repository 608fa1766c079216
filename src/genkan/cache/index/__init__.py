"""Finds stored questions that are near to one, by their vectors."""
