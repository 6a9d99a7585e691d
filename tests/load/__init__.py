"""How fast the broker answers many sites while a run is under way: `python -m tests.load`."""
