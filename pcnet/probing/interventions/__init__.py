"""Moving a state to another belief, and what the model then predicts."""
