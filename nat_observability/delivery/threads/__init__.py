"""The threads that a delivery runs on, what they heed, and what becomes of them when the process ends."""
