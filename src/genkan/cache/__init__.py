"""Stored answers: when one question's answer may be given to another."""
