"""Models and weights of other libraries; import the submodule you need."""
