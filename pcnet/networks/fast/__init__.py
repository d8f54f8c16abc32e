"""Programs written for particular structures; each equals the generic path by test."""
