"""What each step of an exchange costs, measured one by one. ``python -m benchmarks.steps`` writes ../PROFILE.md."""
