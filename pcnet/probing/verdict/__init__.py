"""Yes, no, not decidable here, or present and not linear."""
