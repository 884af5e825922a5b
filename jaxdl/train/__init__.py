"""Training: `make_train_step` is the mathematics of it, and `fit` the loop around it."""

from jaxdl.train import distributed
from jaxdl.train.cache import enable_compilation_cache
from jaxdl.train.callbacks import Callback, Context, EarlyStopping, LRLogger, Save, Stop
from jaxdl.train.checkpoint import Checkpoints
from jaxdl.train.checkpoint_format import CheckpointCorrupt, Saved
from jaxdl.train.cpu import keep_memory, use_cpu_devices
from jaxdl.train.diagnose import Diagnosis, diagnose
from jaxdl.train.evaluate import Evaluation, evaluate
from jaxdl.train.feed import Batches
from jaxdl.train.fit import fit
from jaxdl.train.logger import JSONLines, Logger, MLflow, TensorBoard, Trackio, WandB
from jaxdl.train.lr_find import RangeTest, lr_find
from jaxdl.train.many import grid, train_many
from jaxdl.train.nonfinite import NonFiniteError
from jaxdl.train.precision import LossScale
from jaxdl.train.predict import predict, predict_many, predictor
from jaxdl.train.state import TrainState, init_state
from jaxdl.train.step import make_eval_step, make_train_step

__all__ = [
    "Batches",
    "Callback",
    "CheckpointCorrupt",
    "Checkpoints",
    "Context",
    "Diagnosis",
    "EarlyStopping",
    "Evaluation",
    "JSONLines",
    "LRLogger",
    "Logger",
    "LossScale",
    "MLflow",
    "NonFiniteError",
    "RangeTest",
    "Save",
    "Saved",
    "Stop",
    "TensorBoard",
    "Trackio",
    "TrainState",
    "WandB",
    "diagnose",
    "distributed",
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
    "train_many",
    "use_cpu_devices",
]
