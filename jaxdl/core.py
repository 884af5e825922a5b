"""`Module`, a pair of pure functions `init` and `apply`, and `compose`, which combines modules.

`init(key, *inputs)` creates the parameters and the state; `apply(params, state, *inputs)` computes
the output and the next state. Both trees are nested dicts that contain only arrays, so they work
with `jax.tree` and with Flax. A layer is a factory that closes over its hyper-parameters and
returns the pair. A composite is defined by named children and one `forward(call, *inputs)`;
`compose` derives both functions from it.

    def mlp(hidden, classes):
        children = dict(hidden=dense(hidden), logits=dense(classes))
        def forward(call, x):
            return call("logits", jax.nn.relu(call("hidden", x)))
        return compose("mlp", children, forward)

The pair of functions follows optax; names of parameters follow Flax.
"""

from __future__ import annotations

import dataclasses
import difflib
import functools
import inspect
import zlib
from collections.abc import Callable, Collection, Mapping
from typing import Any

import jax
import jax.numpy as jnp
from jax.extend import core as jex

from jaxdl import _cache, _foreign

Tree = dict[str, Any]
"""A nested dict of arrays: parameters or state."""
Tap = Callable[[str, Any], Any]
"""`tap(path, value) -> value`: receives the output of the child at `path` and may replace it."""

# JAX has no public function for this. `isinstance(jnp.zeros(()), Tracer)` gives the same answer,
# but starts the backend, after which `jax.distributed.initialize` raises. If a later JAX removes
# the function, models are built without the check.
_under_jit = getattr(jex, "unsafe_am_i_under_a_jit_DO_NOT_USE", lambda: False)


@dataclasses.dataclass(frozen=True, eq=False, repr=False)
class Module:
    """A layer or network as two pure functions, `init` and `apply`.

    Modules are compared and hashed by identity, so a module can be a static argument of `jax.jit`.
    Build it once, outside of the compiled function. `kind`, `config` and `children` are for
    display only.

    Attributes:
      init: `(key, *inputs) -> (params, state)`. Only the inputs' shapes and dtypes matter.
      apply: `(params, state, *inputs, train=False, key=None, tap=None) -> (output, state)`.
        `train` enables dropout and batch statistics; `key` is required by random layers when
        `train` is true; `tap` is called with the output of every named child.
      kind: the factory's name.
      config: the factory's hyper-parameters.
      children: the named parts of a composite.
      takes_lengths: whether `lengths` (N,), the number of steps of each row before its padding, may
        follow the first input. `serial` passes lengths to such layers.
      rebuild: `children -> Module`, the same composite of other children; None for other modules.
      programs: compiled functions of this model, see `jaxdl._cache`. They are released with it.

    Raises:
      ValueError: the module is built while `jax.jit` traces. Every trace would create another
        model, and functions that cache by model (`jaxdl.init`, `train.fit`) would recompile.
    """

    init: Callable[..., tuple[Tree, Tree]]
    apply: Callable[..., tuple[Any, Tree]]
    kind: str = "module"
    config: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    children: Mapping[str, Module] = dataclasses.field(default_factory=dict)
    takes_lengths: bool = False
    rebuild: Callable[[Mapping[str, Module]], Module] | None = None
    programs: dict[Callable, Callable] = dataclasses.field(default_factory=dict, init=False)

    def __post_init__(self):
        if _under_jit():
            raise ValueError(
                f"{self.kind} was built inside a function that jax.jit traces; expected a model "
                "built once, outside. Move the factory call out of the compiled function and close "
                "over the model."
            )

    def __repr__(self) -> str:
        config = ", ".join(f"{name}={_show(value)}" for name, value in self.config.items())
        if not self.children:
            return f"{self.kind}({config})"
        lines = [f"{name}: {child!r}" for name, child in self.children.items()]
        body = "\n".join(lines).replace("\n", "\n  ")
        return f"{self.kind}({config}) {{\n  {body}\n}}"


def check_model(who: str, model: Any) -> None:
    """Raises a `ValueError` unless `model` is a `Module`; the message explains the conversion."""
    if not isinstance(model, Module):
        raise ValueError(f"{who}: {_foreign.expected_module(model)}")


def _show(value: Any) -> str:
    return getattr(value, "__name__", None) or repr(value)


def init(model: Module, key: jax.Array, *inputs: Any) -> tuple[Tree, Tree]:
    """Creates the parameters and the state of a model, in compiled code.

    Args:
      model: any `Module`.
      key: a PRNG key, `jax.random.key(seed)`.
      *inputs: the inputs of `model.apply`: arrays, `jax.ShapeDtypeStruct`s or trees of them, with
        the batch axis. Only shapes and dtypes are used; the network does not run.

    Returns:
      `(params, state)`, nested dicts; layers without parameters have no entry.

    Raises:
      ValueError: `model` is not a `Module`, `key` is not a PRNG key, or a layer rejects its input.
    """
    check_model("init", model)
    dtype, shape = getattr(key, "dtype", None), getattr(key, "shape", None)
    typed = dtype is not None and jnp.issubdtype(dtype, jax.dtypes.prng_key) and shape == ()
    if not typed and not (dtype == jnp.uint32 and len(shape or ()) == 1):
        received = repr(key) if shape is None else f"{dtype}{list(shape)}"
        raise ValueError(
            f"init: key is {received}; expected one PRNG key: pass jax.random.key(seed), with an "
            "integer seed."
        )
    leaves, treedef = jax.tree.flatten(inputs)
    specs = tuple(jax.ShapeDtypeStruct(jnp.shape(x), jnp.result_type(x)) for x in leaves)
    return _initializer(model, treedef, specs)(key)


@_cache.per_model
def _initializer(model, treedef, specs):
    def initialize(key):
        # `compose` runs `forward` to find the shapes of all inputs. XLA removes this computation on
        # zeros, because only the parameters and the state are outputs.
        zeros = [jnp.zeros(spec.shape, spec.dtype) for spec in specs]
        result = model.init(key, *jax.tree.unflatten(treedef, zeros))
        pair = isinstance(result, tuple) and len(result) == 2
        if not (pair and all(isinstance(part, Mapping) for part in result)):
            raise ValueError(
                f"the model's init ({model.kind}) returns {describe_result(result)}; expected "
                "(params, state), two dicts of arrays. Without state, return (params, {})."
            )
        return result

    return _cache.Compiled(initialize)


def describe_result(result: Any) -> str:
    """Describes the value that `init` or `apply` returned, for error messages."""
    if isinstance(result, tuple):
        return f"({', '.join(type(part).__name__ for part in result)})"
    return "one array" if hasattr(result, "shape") else f"one {type(result).__name__}"


def named_key(key: jax.Array | None, name: str) -> jax.Array | None:
    """Derives the PRNG key of the child called `name`.

    It depends on the name and not on the position, so adding a layer does not change the initial
    values of the others.
    """
    # Python's `hash` of a string differs between processes; crc32 does not.
    return None if key is None else jax.random.fold_in(key, zlib.crc32(name.encode()))


def as_module(layer: Module | Callable) -> Module:
    """Wraps a function of arrays as a `Module` without parameters; returns a `Module` unchanged."""
    if isinstance(layer, Module):
        return layer
    # Models of other libraries are callable too, but their parameters would not be trained.
    if _foreign.adapter(layer) or _foreign.makes_module(layer):
        raise ValueError(_foreign.expected_module(layer).replace("model is", "a layer is", 1))
    if not callable(layer):
        raise ValueError(
            f"a layer is a Module or a function of arrays; got {layer!r}, a {type(layer).__name__}."
        )
    function = layer
    while isinstance(function, functools.partial):
        function = function.func
    name = getattr(function, "__name__", type(function).__name__).strip("<>")
    return Module(
        init=lambda key, *inputs: ({}, {}),
        apply=lambda params, state, *inputs, **_: (layer(*inputs), state),
        kind=name,
    )


class Call:
    """The first argument of a composite's `forward`: `call(name, *inputs)` runs a child.

    Calling a child again shares its parameters (weight tying). The second call has the tap path
    `name#1` and separate random numbers. `call.params(name)` returns the parameters of a child that
    has run, for ties that are not calls, such as an output layer that uses the embedding table.
    """

    def __init__(self, kind: str, children: Mapping[str, Module], run: Callable, params: Tree):
        self._kind, self._children, self._run, self._params = kind, children, run, params
        self.uses: dict[str, int] = {}

    def __call__(self, name: str, *inputs: Any) -> Any:
        if name not in self._children:
            raise ValueError(
                f"no child {name!r} in {self._kind}; {suggest(name, self._children, 'children')}"
            )
        use = self.uses.get(name, 0)
        self.uses[name] = use + 1
        label = name if use == 0 else f"{name}#{use}"
        with jax.named_scope(label):
            return self._run(name, label, self._children[name], inputs)

    def params(self, name: str) -> Tree:
        if name not in self.uses:
            raise ValueError(
                f"{self._kind}: call.params({name!r}) before call({name!r}, ...); run the child "
                "first, so that its parameters exist."
            )
        return self._params.get(name, {})


def suggest(name: str, known: Collection[str], what: str) -> str:
    """Returns the end of an error about an unknown name: the closest name and all known names."""
    close = difflib.get_close_matches(name, known, n=1)
    hint = f"did you mean {close[0]!r}? " if close else ""
    return f"{hint}{what}: {', '.join(known) or 'none'}."


def compose(
    kind: str,
    children: Mapping[str, Module | Callable],
    forward: Callable[..., Any],
    *,
    optional: Collection[str] = (),
    **config: Any,
) -> Module:
    """Builds a `Module` from named children and one `forward(call, *inputs)`.

    Args:
      kind: the name displayed for the composite, usually that of its factory.
      children: the layers by name; functions are layers without parameters. The names are the keys
        of the parameter tree and the parts of a tap's path.
      forward: computes the output from the inputs and runs children by `call(name, *inputs)`.
        Branches, skips and loops are ordinary Python. If its second input is called `lengths`, the
        module has `takes_lengths=True`.
      optional: names of children that `forward` may leave unused, such as a projection that is
        required for some shapes only.
      **config: hyper-parameters, for display.

    Returns:
      A `Module` whose parameters and state are dicts keyed by child, without empty entries.

    Raises:
      ValueError: a name contains "/" or "#"; `forward` calls an unknown child or leaves one unused;
        parameters or state contain an entry without a child.
    """
    parts = {name: as_module(child) for name, child in children.items()}
    for name in parts:
        if not name or "/" in name or "#" in name:
            raise ValueError(
                f"{kind}: child name {name!r} is empty or holds '/' or '#'; rename it."
            )

    def init(key, *inputs):
        params, state = {}, {}

        def run(name, label, child, inputs):
            if name not in params:  # a second call shares the parameters of the first
                params[name], state[name] = child.init(named_key(key, name), *inputs)
            return child.apply(params[name], state[name], *inputs)[0]

        call = Call(kind, parts, run, params)
        forward(call, *inputs)
        unused = [name for name in parts if name not in call.uses and name not in optional]
        if unused:
            raise ValueError(
                f"{kind}: forward never calls {', '.join(map(repr, unused))}. Call every child, "
                "remove it, or add it to optional=."
            )
        return _without_empty(params), _without_empty(state)

    def apply(params, state, *inputs, train=False, key=None, tap=None):
        for tree, what in ((params, "params"), (state, "state")):
            extra = [name for name in tree if name not in parts]
            if extra:
                raise ValueError(
                    f"{kind}: {what} contains {extra[0]!r}, which is not a child; "
                    f"{suggest(extra[0], parts, 'children')}"
                )
        state = dict(state)

        def run(name, label, child, inputs):
            inner = None if tap is None else below(tap, label)
            try:
                output, new = child.apply(
                    params.get(name, {}),
                    state.get(name, {}),
                    *inputs,
                    train=train,
                    key=named_key(key, label),
                    tap=inner,
                )
            except KeyError as missing:
                raise ValueError(
                    f"{kind}: child {name!r} ({child.kind}) has no parameter or state {missing}; "
                    f"params has the keys {sorted(params)}, state has {sorted(state)}. Create both "
                    "with jaxdl.init of this model."
                ) from missing
            if new:
                state[name] = new
            return output if tap is None else tap(label, output)

        return forward(Call(kind, parts, run, params), *inputs), state

    takes_lengths = list(inspect.signature(forward).parameters)[2:3] == ["lengths"]

    def rebuild(children):
        return compose(kind, children, forward, optional=optional, **config)

    return Module(init, apply, kind, config, parts, takes_lengths, rebuild)


def below(tap: Tap, folder: str) -> Tap:
    """Returns the tap of a child: it calls `tap` with `folder/path`."""
    return lambda path, value: tap(f"{folder}/{path}", value)


def _without_empty(tree: Tree) -> Tree:
    return {name: sub for name, sub in tree.items() if jax.tree.leaves(sub)}
