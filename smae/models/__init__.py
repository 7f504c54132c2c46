"""Models: tokens, masking, encoders, decoders. They know nothing of data or training."""
