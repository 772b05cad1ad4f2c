"""What `tests/transparency/run` is made of: run a program bare and probed, and compare."""
