import sys
from pathlib import Path

import keras

sys.path.insert(0, str(Path(__file__).parent.parent / "examples"))

compile_model = keras.Model.compile


def compile_and_build(self, *args, **kwargs):
    """Makes the optimizer's variables, without which Keras traces the first training step twice."""
    compile_model(self, *args, **kwargs)
    if self.built and self.optimizer is not None:
        self.optimizer.build(self.trainable_variables)


keras.Model.compile = compile_and_build
