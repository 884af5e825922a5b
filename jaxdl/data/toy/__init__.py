"""Made-up data: the lectures' grammars and memory tasks."""
