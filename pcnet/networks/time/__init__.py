"""Networks whose values are carried on from one step to the next."""
