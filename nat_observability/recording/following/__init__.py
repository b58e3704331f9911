"""Following: a step stays open around what its call has returned, until that is consumed."""
