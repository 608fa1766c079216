"""Answers in a form: grammars, and which tokens they allow next."""
