"""What a process is, and what processes can be made of others."""
