"""Sequence-to-sequence models and image captioning."""
