import gc
import os
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent / "examples"))

# Most of the time goes into compiling what runs for a moment: without optimization, of XLA and of
# TensorFlow's graphs. With `XLA_FLAGS=` in the environment both do what they do for users.
PLAIN_CODE = (
    "--xla_backend_optimization_level=0 --xla_llvm_disable_expensive_passes=true "
    "--xla_cpu_use_fusion_emitters=false"
)
os.environ.setdefault("XLA_FLAGS", PLAIN_CODE)

# Nearly all that is made stays, modules and graphs: to look through it for garbage again and again
# took 7% of the time, and a sixth of every start of TensorFlow in the processes that tests start.
gc.set_threshold(50_000, 20, 20)
CHILDREN = str(Path(__file__).with_name("children"))
sys.path.append(CHILDREN)  # some tests pass all of it on
os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, (os.environ.get("PYTHONPATH"), CHILDREN)))


def pytest_collection_finish():
    gc.freeze()
    if "tensorflow" in sys.modules and os.environ["XLA_FLAGS"] == PLAIN_CODE:
        options = {"disable_meta_optimizer": True}
        sys.modules["tensorflow"].config.optimizer.set_experimental_options(options)
