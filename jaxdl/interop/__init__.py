"""Models and weights of other libraries; import the module that is wanted."""
