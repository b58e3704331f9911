"""Replaying a recorded event stream of the reference toolkit."""
