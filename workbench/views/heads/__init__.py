"""Attention heads by a score: a map of layers × heads, a ranking, and every score of one head."""
