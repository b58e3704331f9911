"""The operating system and the interpreter: disk, forks, live objects."""
