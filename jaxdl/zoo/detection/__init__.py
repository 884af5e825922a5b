"""Networks and functions for detecting objects, one paper each."""
