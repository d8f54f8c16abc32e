"""What a sceptic asks for: features that know less than a model might, and targets that mean nothing."""
