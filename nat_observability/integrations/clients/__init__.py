"""Hooks for clients: what a run calls continues its trace and knows its ids. Each module imports only its client."""
