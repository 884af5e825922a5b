"""Networks for images, one paper each."""
