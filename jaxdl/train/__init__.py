"""Training: `make_train_step` is the mathematics of it, and `fit` the loop around it."""

from jaxdl.train.callbacks import Callback, Context, EarlyStopping, LRLogger, Save, Stop
from jaxdl.train.evaluate import evaluate, predict, predictor
from jaxdl.train.fit import fit
from jaxdl.train.nonfinite import NonFiniteError
from jaxdl.train.state import TrainState, init_state
from jaxdl.train.step import make_eval_step, make_train_step

__all__ = [
    "Callback",
    "Context",
    "EarlyStopping",
    "LRLogger",
    "NonFiniteError",
    "Save",
    "Stop",
    "TrainState",
    "evaluate",
    "fit",
    "init_state",
    "make_eval_step",
    "make_train_step",
    "predict",
    "predictor",
]
