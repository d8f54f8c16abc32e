"""How fast beliefs come: filters, observed samples, words, mixed states and streams, beside dynamax and hmmlearn."""
