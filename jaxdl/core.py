"""A model is two pure functions.

`init(key, *inputs)` makes the parameters and the state, `apply(params, state, *inputs)` computes
the output and the next state. Both trees are nested dicts of arrays and of nothing else, so they
print as paths, map under `jax.tree`, and interchange with Flax. A layer is a factory that closes
over its hyper-parameters and returns the pair; a composite is named children and one
`forward(call, *inputs)` from which the pair is derived, so that no network is written twice.

    def mlp(hidden, classes):
        children = dict(hidden=dense(hidden), logits=dense(classes))
        def forward(call, x):
            return call("logits", jax.nn.relu(call("hidden", x)))
        return compose("mlp", children, forward)

The shape of the pair is optax's, and the names are Flax's.
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
"""`tap(path, value) -> value`: sees, and may replace, the output of the child at `path`."""

# No public function tells whether jax.jit traces. Without this one models are built unchecked.
_under_jit = getattr(jex, "unsafe_am_i_under_a_jit_DO_NOT_USE", lambda: False)


@dataclasses.dataclass(frozen=True, eq=False, repr=False)
class Module:
    """A pair of pure functions; `kind`, `config` and `children` only describe it.

    Compared and hashed by identity, so a module can be a static argument of `jax.jit`; build it
    once, outside of the compiled function.

    Attributes:
      init: `(key, *inputs) -> (params, state)`. Only the inputs' shapes and dtypes matter.
      apply: `(params, state, *inputs, train=False, key=None, tap=None) -> (output, state)`.
        `train` switches dropout and batch statistics on; `key` is needed by random layers when
        `train` is true; `tap` sees the output of every named child.
      kind: the factory's name.
      config: the factory's hyper-parameters.
      children: the named parts of a composite.
      takes_lengths: whether `lengths` (N,) may follow the first input, the steps of each row before
        its padding; `serial` hands them on to such layers.
      programs: what is compiled for the model, see `jaxdl._cache`; it ends with the model.

    Raises:
      ValueError: built while `jax.jit` traces. Every trace would make another model, and whatever
        is cached by model (`jaxdl.init`, `train.fit`) would compile anew.
    """

    init: Callable[..., tuple[Tree, Tree]]
    apply: Callable[..., tuple[Any, Tree]]
    kind: str = "module"
    config: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    children: Mapping[str, Module] = dataclasses.field(default_factory=dict)
    takes_lengths: bool = False
    programs: dict[Callable, Callable] = dataclasses.field(default_factory=dict, init=False)

    def __post_init__(self):
        if _under_jit():
            raise ValueError(
                f"{self.kind} was built inside a function that jax.jit traces; expected a model "
                "built once, outside: move the factory call out of the compiled function and close "
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
    """Raises a `ValueError` that says how to make a `Module` of `model`, if it is none."""
    if not isinstance(model, Module):
        raise ValueError(f"{who}: {_foreign.expected_module(model)}")


def _show(value: Any) -> str:
    return getattr(value, "__name__", None) or repr(value)


def init(model: Module, key: jax.Array, *inputs: Any) -> tuple[Tree, Tree]:
    """Makes a model's parameters and state, compiled, without running the network.

    Args:
      model: any `Module`.
      key: a PRNG key, `jax.random.key(seed)`.
      *inputs: what `model.apply` will be given: arrays, `jax.ShapeDtypeStruct`s, or trees of them,
        with the batch axis. Only shapes and dtypes are used.

    Returns:
      `(params, state)`, nested dicts; layers without parameters have no entry.

    Raises:
      ValueError: `model` is no `Module`; `key` is no PRNG key; or a layer rejects its input.
    """
    check_model("init", model)
    dtype, shape = getattr(key, "dtype", None), getattr(key, "shape", None)
    typed = dtype is not None and jnp.issubdtype(dtype, jax.dtypes.prng_key) and shape == ()
    if not typed and not (dtype == jnp.uint32 and len(shape or ()) == 1):
        given = repr(key) if shape is None else f"{dtype}{list(shape)}"
        raise ValueError(
            f"init: key is {given}; expected one PRNG key: pass jax.random.key(seed), with an "
            "integer seed."
        )
    leaves, treedef = jax.tree.flatten(inputs)
    specs = tuple(jax.ShapeDtypeStruct(jnp.shape(x), jnp.result_type(x)) for x in leaves)
    return _initializer(model, treedef, specs)(key)


@_cache.per_model
def _initializer(model, treedef, specs):
    def initialize(key):
        zeros = [jnp.zeros(spec.shape, spec.dtype) for spec in specs]
        made = model.init(key, *jax.tree.unflatten(treedef, zeros))
        pair = isinstance(made, tuple) and len(made) == 2
        if not (pair and all(isinstance(part, Mapping) for part in made)):
            raise ValueError(
                f"the model's init ({model.kind}) returns {show_returned(made)}; expected (params, "
                "state), two dicts of arrays: without state return (params, {})."
            )
        return made

    return _cache.Compiled(initialize)


def show_returned(made: Any) -> str:
    """The kind of what a function of a model returns, for errors."""
    if isinstance(made, tuple):
        return f"({', '.join(type(part).__name__ for part in made)})"
    return "one array" if hasattr(made, "shape") else f"one {type(made).__name__}"


def named_key(key: jax.Array | None, name: str) -> jax.Array | None:
    """The key of the part called `name`, whatever other parts there are.

    Keys hang on names, not on positions, so adding a layer leaves the others' values as they were;
    crc32, unlike `hash`, is the same in every process.
    """
    return None if key is None else jax.random.fold_in(key, zlib.crc32(name.encode()))


def as_module(layer: Module | Callable) -> Module:
    """A plain callable of arrays is a layer without parameters; a `Module` is returned as it is."""
    if isinstance(layer, Module):
        return layer
    # A network of another library is callable too, and its parameters would not be trained.
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
    """What a composite's `forward` is given: `call(name, *inputs)` runs the child of that name.

    Calling a child again shares its parameters (weight tying); the second use is tapped as
    `name#1` and draws its own random numbers. `call.params(name)` is the parameters of a child that
    has run, for ties that are no call, such as an output layer that reads the embedding's table.
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
    """The second half of an error about a wrong name: the likely one, and all that there are."""
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
    """Named children and one `forward(call, *inputs)` make a `Module`.

    Args:
      kind: the name shown for the composite, by custom its factory's.
      children: the parts by name; plain callables are layers without parameters. The names are the
        keys of the parameter tree and the steps of a tap's path.
      forward: computes the output from the inputs, running children by `call(name, *inputs)`.
        Branches, skips and loops are ordinary Python. A second input called `lengths` is what
        `Module.takes_lengths` says.
      optional: names of children that `forward` may leave unused, such as a projection that only
        some shapes need.
      **config: hyper-parameters, to be shown.

    Returns:
      The module; parameters and state are dicts keyed by child, without empty entries.

    Raises:
      ValueError: a name holds "/" or "#"; `forward` calls a child that is not there, or leaves one
        unused; parameters hold entries that are no child's.
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
            if name not in params:
                params[name], state[name] = child.init(named_key(key, name), *inputs)
            return child.apply(params[name], state[name], *inputs)[0]

        call = Call(kind, parts, run, params)
        forward(call, *inputs)
        unused = [name for name in parts if name not in call.uses and name not in optional]
        if unused:
            raise ValueError(
                f"{kind}: forward never calls {', '.join(map(repr, unused))}; call every child, "
                "remove it, or name it in optional=."
            )
        return _without_empty(params), _without_empty(state)

    def apply(params, state, *inputs, train=False, key=None, tap=None):
        for given, what in ((params, "params"), (state, "state")):
            extra = [name for name in given if name not in parts]
            if extra:
                raise ValueError(
                    f"{kind}: {what} hold {extra[0]!r}; {suggest(extra[0], parts, 'children')}"
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
                    f"{kind}: child {name!r} ({child.kind}) found no parameter or state {missing}; "
                    f"params hold {sorted(params)}, state holds {sorted(state)}. Were both made by "
                    "this model's init?"
                ) from missing
            if new:
                state[name] = new
            return output if tap is None else tap(label, output)

        return forward(Call(kind, parts, run, params), *inputs), state

    takes_lengths = list(inspect.signature(forward).parameters)[2:3] == ["lengths"]
    return Module(init, apply, kind, config, parts, takes_lengths)


def below(tap: Tap, folder: str) -> Tap:
    """The tap of a part: what it sees at `path` is `folder/path` to the whole."""
    return lambda path, value: tap(f"{folder}/{path}", value)


def _without_empty(tree: Tree) -> Tree:
    return {name: sub for name, sub in tree.items() if jax.tree.leaves(sub)}
