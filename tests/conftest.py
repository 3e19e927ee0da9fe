import gc
import os
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent / "examples"))

# Most of the time goes into compiling what runs for a moment: without optimization. With
# `XLA_FLAGS=` in the environment XLA does what it does for users.
os.environ.setdefault(
    "XLA_FLAGS",
    "--xla_backend_optimization_level=0 --xla_llvm_disable_expensive_passes=true "
    "--xla_cpu_use_fusion_emitters=false",
)

# Nearly all that is made stays, modules and graphs: to look through it for garbage again and again
# took 7% of the time.
gc.set_threshold(20_000, 10, 10)


def pytest_collection_finish():
    gc.freeze()
