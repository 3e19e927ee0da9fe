"""HyperNetwork: generates the weights of any Keras model."""

import keras
from keras import ops

from keras_hypernets.layers_within import layers_within
from keras_hypernets.network.conditions import (
    as_tensors,
    check_condition,
    check_condition_shape,
    check_rows_equal,
)
from keras_hypernets.network.generators import TileWriter, WeightWriter
from keras_hypernets.network.leaves import owners, seed_generators, without
from keras_hypernets.network.options import check_options
from keras_hypernets.network.output_regularizer import PREFIX, OutputRegularizer
from keras_hypernets.network.plans import Generated, make_plans
from keras_hypernets.network.running import copy_target, run_target
from keras_hypernets.network.target_weights import (
    check_target,
    choose,
    finalize,
    freeze_bases,
    regularizer_of,
    take_regularizers,
)
from keras_hypernets.static.kernel_generator import (
    KernelGenerator,
    serialize_shared,
    spread_of_kernel,
)
from keras_hypernets.validation import (
    boolean,
    keras_object,
    one_of,
    positive_integer,
    positive_integers,
)


@keras.saving.register_keras_serializable(package="keras_hypernets")
class HyperNetwork(keras.Layer):
    """Generates the weights of a target, any Keras model or layer, from a condition.

        theta = theta_0 + h(condition)
        outputs = target(inputs; theta)

    The target needs no changes: nested, subclassed and composite models, masks, batch
    normalization and dropout work as usual. Its regularizers apply to the generated weights, base
    included, and no longer to a trainable base alone.

    Args:
        target: a built `keras.Model` or `keras.Layer`.
        target_weights: which weights are generated: a regular expression that `re.search` looks
            for in `variable.path`, a list of them, or a function that returns whether a variable is
            generated. A function is not saved, but what it has chosen is. Default `None`: all
            trainable weights, with a `KernelGenerator` those that consist of whole tiles. The other
            weights stay in the target.
        generator: a layer from the condition to `(rows, features)`, in place of the hidden layers;
            or a `KernelGenerator`, which generates kernels tile by tile from learned embeddings. A
            layer that reads integers must begin with a `keras.Input` of their dtype. Default
            `None`.
        hidden_units: units of the generator's dense layers. Default `(100, 100)`.
        activation: of the generator's dense layers. Default `"relu"`.
        embedding_dim: size of the learned embedding that takes the place of a condition. Default
            `None`: there is a condition.
        per_sample: whether each sample has weights of its own, from its own condition. Default
            `False`: one condition serves the whole batch. On TensorFlow, XLA
            cannot compile recurrent layers with per-sample weights.
        generation: how a weight is written:

            - `"full"` (default): number by number.
            - `"low_rank"`: as the product of two factors, `alpha / rank * a b`. Weights whose
              factors would not be smaller, such as vectors, are written in full.
            - `"scaling"`: as a scale for each output channel of a base, `theta_0 (1 + h)`. Vectors
              have a scale for each element.
        rank: positive integer, the rank of `"low_rank"`. Default `None`.
        alpha: number above 0. Default `None`: `rank`.
        chunk_size: how many numbers the generator writes at once. A smaller chunk makes a smaller
            generator, which runs once for each chunk and reads the chunk's learned embedding beside
            the condition. Default `None`: all at once.
        chunk_embedding_dim: size of a chunk's embedding. Default 8.
        base: what the generated values are added to:

            - `"trainable"` (default): the target's own weights, which train too.
            - `"frozen"`: the target's own weights, frozen, also for other uses of the target. Its
              other weights are not affected.
            - `None`: nothing. The target's own values are not counted, saved or trained.

            With a base, the outputs start as those of the target. Without one, kernels start with
            the standard deviation of the target's kernels, and vectors at the target's values, or
            with a `chunk_size` at their mean.
        condition_encoding: `"cos_sin"` encodes a condition c in [0, 1] as cos(pi c / 2) and
            sin(pi c / 2), so that small and large conditions have the same norm
            ([Ortiz et al., 2023](https://arxiv.org/abs/2304.07645)). Default `None`.
        **kwargs: arguments of `keras.Layer`.

    Call arguments:
        inputs: the target's inputs.
        condition: a tensor `(rows, features)`, or what `generator` reads. With `per_sample`, one
            row for each sample. Otherwise one row, or for `fit` equal rows, one for each sample.
            Rows that differ raise an error. In a compiled model on JAX, and where XLA compiles the
            model, as Keras does by default on a GPU, the generated weights are NaN instead; a
            training step then makes all trained weights NaN.
        training: whether the target runs in training mode.
        **kwargs: other arguments of the target's call, such as the `value` of an attention layer:
            all of them tensors, or none.

    Returns:
        The target's outputs.

    Raises:
        ValueError: if an argument is out of range, or the condition does not fit.

    Example:

    >>> target = keras.Sequential([keras.Input((8,)), keras.layers.Dense(4)])
    >>> hyper = keras_hypernets.HyperNetwork(target, hidden_units=(16,), per_sample=True)
    >>> tuple(hyper(keras.ops.ones((3, 8)), keras.ops.ones((3, 2))).shape)
    (3, 4)

    References:
        - [Ha et al., 2016](https://arxiv.org/abs/1609.09106)
        - [Chang et al., 2020](https://arxiv.org/abs/2312.08399): initial values
    """

    def __init__(
        self,
        target,
        target_weights=None,
        generator=None,
        hidden_units=(100, 100),
        activation="relu",
        embedding_dim=None,
        per_sample=False,
        generation="full",
        rank=None,
        alpha=None,
        chunk_size=None,
        chunk_embedding_dim=8,
        base="trainable",
        condition_encoding=None,
        **kwargs,
    ):
        check_target(target)
        # That of the target's state, which is then not rounded on its way through this layer.
        double = any(weight.dtype == "float64" for weight in target.weights)
        kwargs.setdefault("dtype", "float64" if double else target.variable_dtype)
        super().__init__(**kwargs)
        self.supports_masking = True
        self.target_weights = target_weights
        self.generator = generator
        self.hidden_units = positive_integers("hidden_units", hidden_units)
        self.activation = keras_object("activation", activation)
        self.embedding_dim = embedding_dim
        self.per_sample = boolean("per_sample", per_sample)
        self.generation = one_of("generation", generation, ("full", "low_rank", "scaling"))
        self.rank = rank
        self.alpha = alpha
        self.chunk_size = chunk_size
        self.chunk_embedding_dim = positive_integer("chunk_embedding_dim", chunk_embedding_dim)
        self.base = base
        self.condition_encoding = condition_encoding
        check_options(self)
        if base is None:
            # Not tracked: of the target's variables, this layer has only those it does not write.
            vars(self)["target"] = target
        else:
            self.target = target
        self.protected = None
        self.protection_seeds = keras.random.SeedGenerator()
        self._choose()
        # Keras finds no layers of a target without a base.
        parts = [layer for _, layer in layers_within(target)]
        self.supports_jit = all(layer.supports_jit for layer in parts) and not self._loops(parts)
        if not self.trainable:
            target.trainable = self.writer.trainable = False

    def _choose(self):
        """Chooses the weights to generate, and makes the sublayer that writes them."""
        target, tiles = self.target, isinstance(self.generator, KernelGenerator)
        chosen = choose(target, self.target_weights, self.generator if tiles else None)
        layer_of = {id(v): layer for layer, variables in owners(target) for v in variables}
        # In objects of their own, since Keras would track variables in a list.
        self.generated = [Generated(v, layer_of[id(v)], regularizer_of(v)) for v in chosen]
        dtype = "float64" if self.variable_dtype == "float64" else "float32"
        if tiles:
            for variable in chosen:
                self.generator.count_tiles(variable.shape, variable.path)
            shapes = [tuple(variable.shape) for variable in chosen]
            self.writer = TileWriter(self.generator, shapes, dtype=dtype, name="writer")
        else:
            has_base = self.base is not None
            self.writer = WeightWriter(
                make_plans(self.generated, self.generation, self.rank, self.alpha, has_base),
                has_base=has_base,
                generator=self.generator,
                hidden_units=self.hidden_units,
                activation=self.activation,
                embedding_dim=self.embedding_dim,
                chunk_size=self.chunk_size,
                chunk_embedding_dim=self.chunk_embedding_dim,
                cos_sin=self.condition_encoding == "cos_sin",
                dtype=dtype,
                name="writer",
            )
        # Only now, since an error must leave the target as it was.
        if self.base == "trainable":
            take_regularizers(chosen)
        elif self.base == "frozen":
            freeze_bases(target, chosen)
        self.kept_weights = []
        if self.base is None:
            self.kept_weights = without(target.weights, chosen)
            self.kept_seeds = seed_generators(target)

    def _loops(self, parts):
        """Returns whether a layer loops over time with weights per sample, as XLA cannot here."""
        if not self.per_sample or keras.backend.backend() != "tensorflow":
            return False
        recurrent = [
            v for part in parts if isinstance(part, keras.layers.RNN) for v in part.weights
        ]
        return not {id(v) for v in recurrent}.isdisjoint(id(g.variable) for g in self.generated)

    def build(self, inputs_shape, condition_shape=None):
        self.condition_features = check_condition_shape(self, condition_shape)
        self.depends_on_input = condition_shape is not None
        self.condition_structure = keras.tree.map_shape_structure(lambda shape: 0, condition_shape)
        self.writer.build(condition_shape)
        if not self.depends_on_input and any(g.regularizer for g in self.generated):
            # With `add_loss` Keras mixes up the losses of several devices under MirroredStrategy.
            self.writer.learned.regularizer = lambda _: self._penalty(self._write_rows(None))

    def call(self, inputs, condition=None, training=None, **kwargs):
        check_condition(self, condition, inputs)
        forms = self._write(condition)
        penalized = self.trainable and any(g.regularizer for g in self.generated)
        if self.depends_on_input and penalized:
            self.add_loss(self._penalty(forms))
        if training and self.protected is not None:
            self.add_loss(self.protected.loss(self._write_rows, self.protection_seeds))
        # Keras' stateless_call does not tell sublayers whether they are trained.
        options = {"training": training, **kwargs}
        outputs, losses = run_target(
            self.target, self.generated, forms, self.per_sample, inputs, options
        )
        if losses:
            # A sum, since Keras would find the losses themselves in the target's layers again.
            self.add_loss(sum(losses))
        return outputs

    def compute_output_spec(self, inputs, condition=None, training=None, **kwargs):
        # By default Keras traces `call`, which takes as long as to build the target.
        check_condition(self, condition, inputs)
        return self.target.compute_output_spec(inputs, **kwargs)

    def compute_output_shape(self, inputs_shape, condition_shape=None):
        return self.target.compute_output_shape(inputs_shape)

    def _write(self, condition):
        """Returns the forms of the generated weights, with a row or one for each sample."""
        if condition is None or self.per_sample:
            return self._write_rows(condition)
        equal = check_rows_equal(condition)
        condition = keras.tree.map_structure(lambda rows: rows[:1], condition)
        return self._write_rows(condition, equal)

    def _write_rows(self, condition, valid=None):
        """Returns the forms of the generated weights, with a row for each of the condition.

        Args:
            condition: as in a call, or `None`.
            valid: a boolean tensor; if it is false, all values are NaN. `None`: as if true.
        """
        bases = [None] * len(self.generated)
        if self.base is not None:
            dtype = self.writer.compute_dtype
            bases = [ops.cast(g.variable.value, dtype) for g in self.generated]
        return self.writer.write(condition, bases, valid)

    def _penalty(self, forms):
        """Returns the loss of the target's regularizers, for the generated values."""
        penalty = 0.0
        for g, form in zip(self.generated, forms, strict=True):
            if g.regularizer is not None:
                one, values = g.regularizer, form.value()
                loss = ops.vectorized_map(one, values) if self.per_sample else one(values[0])
                penalty = penalty + ops.mean(loss)
        return penalty

    def generated_weights(self, condition=None):
        """Returns the weights with which the target runs, by their paths, the base included.

        Args:
            condition: as in a call, or lists of numbers; without `per_sample`, one row is enough.

        Returns:
            A dictionary from paths to tensors, with an axis of samples in front if `per_sample`.

        Raises:
            ValueError: if the layer is not built, or the condition does not fit.
        """
        condition = as_tensors(self, condition)
        weights = {}
        for g, form in zip(self.generated, self._write(condition), strict=True):
            value = form.value() if self.per_sample else form.value()[0]
            weights[g.variable.path] = ops.cast(value, g.variable.dtype)
        return weights

    def protect(self, conditions, strength, tasks_per_step=None):
        """Adds a loss that keeps the weights generated for these conditions as they are now.

        From the next `compile` on, each call of the layer in training adds the loss

            strength / n * sum_j || theta(e_j) now - theta(e_j) then ||^2

        for the n conditions e_j, over all generated weights, their base included. With it a network
        learns one task after the other without forgetting (eq. 2 of
        [von Oswald et al., 2020](https://arxiv.org/abs/1906.00695)). The conditions and the
        weights written for them are kept as they are now, in `.keras` and `.weights.h5` files too.
        Each call replaces the one before, so pass the conditions of all earlier tasks. A model that
        calls the layer twice adds the loss twice, except on JAX, where Keras keeps only the losses
        of the last call.

        Args:
            conditions: as in a call, with a row for each task.
            strength: number of at least 0.
            tasks_per_step: number of tasks that each step draws at random, from which it estimates
                the loss. Default `None`: all tasks.

        Raises:
            ValueError: if the layer is not built, or has no condition, or an argument does not fit.
        """
        if not self.built or not self.depends_on_input:
            raise ValueError(
                "`protect` needs a HyperNetwork that was called with a condition. "
                f"Received: {self!r}, {'without one' if self.built else 'not built'}"
            )
        conditions = as_tensors(self, conditions, "conditions")
        conditions = keras.tree.map_structure(ops.stop_gradient, conditions)
        weights = [ops.stop_gradient(form.value()) for form in self._write_rows(conditions)]
        self.protected = OutputRegularizer(conditions, weights, strength, tasks_per_step)

    @property
    def embedding(self):
        """The embeddings of all tiles, if a `KernelGenerator` generates the kernels."""
        if not isinstance(self.generator, KernelGenerator):
            raise AttributeError(f"{self.name} has no embeddings of tiles.")
        return self.writer.embedding

    def healthy_spreads(self):
        """Returns the healthy ranges of the kernels' spreads: see `GeneratedWeightsMonitor`.

        Those of weights with a base, and of vectors, are not known.
        """
        if self.base is not None:
            return {}
        shapes = {g.variable.path: tuple(g.variable.shape) for g in self.generated}
        return {path: spread_of_kernel(shape) for path, shape in shapes.items() if len(shape) > 1}

    def plain_layer(self, condition=None):
        """Returns a copy of the target with the generated weights as its own.

        Args:
            condition: as in a call, with one row.
        """
        condition = as_tensors(self, condition)
        if condition is not None:
            shapes = [tuple(part.shape) for part in keras.tree.flatten(condition)]
            if any(shape[:1] != (1,) for shape in shapes):
                raise ValueError(
                    "`condition` must have one row. Received: a condition of shape "
                    f"{', '.join(map(str, shapes))}"
                )
        weights = self.generated_weights(condition)
        values = {id(g.variable): weights[g.variable.path] for g in self.generated}
        if self.per_sample:
            values = {key: value[0] for key, value in values.items()}
        return copy_target(self.target, values)

    def compute_mask(self, inputs, previous_mask):
        return None  # The target has put its own on its outputs, if any.

    @property
    def trainable(self):
        return super().trainable

    @trainable.setter
    def trainable(self, value):
        keras.Layer.trainable.fset(self, value)
        self.target.trainable = value  # also if it is not tracked
        freeze_bases(self.target)

    def __dir__(self):
        # Keras saves each layer that it finds here. Without a base the target is not saved.
        names = super().__dir__()
        return names if self.base is not None else [name for name in names if name != "target"]

    def save_own_variables(self, store):
        # In the target's order. Keras' own depends on what was frozen when it was made.
        for n, variable in enumerate(self.kept_weights):
            store[str(n)] = variable
        if self.protected is not None:
            self.protected.save(store)

    def load_own_variables(self, store):
        if not self.built:
            raise ValueError(
                f"`{self.name}` must be built before its weights are loaded: call it once."
            )
        self.protected = OutputRegularizer.load(store, self.condition_structure)
        found = sum(not key.startswith(PREFIX) for key in store.keys())
        if found != len(self.kept_weights):
            raise ValueError(
                f"The file must have {len(self.kept_weights)} weights of the target of {self.name}."
                f" Received: {found}"
            )
        for n, variable in enumerate(self.kept_weights):
            variable.assign(store[str(n)])
        finalize(self.target)

    def get_config(self):
        generated = {id(g.variable) for g in self.generated}
        return {
            **super().get_config(),
            "target": serialize_shared(self.target),
            "target_weights": None if callable(self.target_weights) else self.target_weights,
            "positions": [n for n, v in enumerate(self.target.variables) if id(v) in generated],
            "generator": None if self.generator is None else serialize_shared(self.generator),
            "hidden_units": self.hidden_units,
            "activation": keras.activations.serialize(self.activation),
            "embedding_dim": self.embedding_dim,
            "per_sample": self.per_sample,
            "generation": self.generation,
            "rank": self.rank,
            "alpha": self.alpha,
            "chunk_size": self.chunk_size,
            "chunk_embedding_dim": self.chunk_embedding_dim,
            "base": self.base,
            "condition_encoding": self.condition_encoding,
        }

    @classmethod
    def from_config(cls, config):
        load = keras.saving.deserialize_keras_object
        config = {
            **config,
            "target": load(config["target"]),
            "generator": load(config["generator"]),
        }
        choice, positions = config["target_weights"], config.pop("positions")
        variables = config["target"].variables
        if not config["target"].built or max(positions) >= len(variables):
            raise ValueError(
                "`target` must be a model that Keras builds again when it loads it: give its class "
                "the methods `get_build_config` and `build_from_config`. Received: "
                f"target={config['target']!r}, loaded with {len(variables)} variables"
            )
        # Not by their paths, which may be others now: Keras does not keep the scopes of names in
        # which a model was made, and numbers variables without a name.
        chosen = {id(variables[position]) for position in positions}
        config["target_weights"] = lambda variable: id(variable) in chosen
        layer = cls(**config)
        layer.target_weights = choice
        return layer
