"""Mixed states and causal states: processes in their smallest predictive form."""
