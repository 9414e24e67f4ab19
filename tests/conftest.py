"""What holds for all tests."""

from hypothesis import settings

# How fast a thing is, benchmarks say: a machine that is busy with other tests makes no test wrong.
settings.register_profile("untimed", deadline=None)
settings.load_profile("untimed")
