"""What the tokens seen so far say about the hidden state; samples and words with all that is known about them."""
