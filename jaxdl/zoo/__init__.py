"""Whole networks, one file each; import the module that is wanted."""
