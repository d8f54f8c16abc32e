"""States that are moved to another belief: where they are held, how far they move, what the model then says."""
