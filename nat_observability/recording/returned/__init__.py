"""What a step's call returns and is still to be consumed: the step stays open around it."""
