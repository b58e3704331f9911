"""The pytest plugin of nat_observability, apart from it: pytest loads this in every session, that only on use."""
