"""Training: one step for all who train, the loop around it, the evaluation that scores every item."""
