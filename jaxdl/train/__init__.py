"""Training: `make_train_step` is the mathematics of it, and `fit` the loop around it."""

from jaxdl.train import sharding
from jaxdl.train.batches import Batches
from jaxdl.train.callbacks import Callback, Context, EarlyStopping, LRLogger, SaveCheckpoint, Stop
from jaxdl.train.checkpoint import Checkpointer
from jaxdl.train.checkpoint_format import CheckpointCorrupt, RestoredRun
from jaxdl.train.cpu import enable_compilation_cache, keep_memory, use_cpu_devices
from jaxdl.train.evaluate import Evaluation, evaluate
from jaxdl.train.fit import fit
from jaxdl.train.logging import JSONLines, Logger, MLflow, TensorBoard, Trackio, WandB
from jaxdl.train.lr_finder import Diagnosis, RangeTest, diagnose, lr_find
from jaxdl.train.options import AugmentedData, Execution, Steps
from jaxdl.train.precision import LossScale
from jaxdl.train.predict import predict, predict_many, predictor
from jaxdl.train.run import NonFiniteError
from jaxdl.train.state import TrainState, init_state
from jaxdl.train.step import make_eval_step, make_train_step
from jaxdl.train.sweep import grid, train_many

__all__ = [
    "AugmentedData",
    "Batches",
    "Callback",
    "CheckpointCorrupt",
    "Checkpointer",
    "Context",
    "Diagnosis",
    "EarlyStopping",
    "Evaluation",
    "Execution",
    "JSONLines",
    "LRLogger",
    "Logger",
    "LossScale",
    "MLflow",
    "NonFiniteError",
    "RangeTest",
    "RestoredRun",
    "SaveCheckpoint",
    "Steps",
    "Stop",
    "TensorBoard",
    "Trackio",
    "TrainState",
    "WandB",
    "diagnose",
    "enable_compilation_cache",
    "evaluate",
    "fit",
    "grid",
    "init_state",
    "keep_memory",
    "lr_find",
    "make_eval_step",
    "make_train_step",
    "predict",
    "predict_many",
    "predictor",
    "sharding",
    "train_many",
    "use_cpu_devices",
]
