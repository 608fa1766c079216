"""Canaries: another model gets some of a route's requests, until figures say that it is no worse, or that it is."""
