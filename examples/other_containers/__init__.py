"""What the recipes of docs/other-containers.md share."""
