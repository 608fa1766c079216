"""What the semantic tier is worth on labelled pairs, and how its score is fitted to them."""
