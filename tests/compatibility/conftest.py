import os

if os.environ.get("KERAS_BACKEND") == "jax":
    # Most of the time goes into compiling, each program for one call: without optimization.
    flags = "--xla_backend_optimization_level=0 --xla_llvm_disable_expensive_passes=true"
    os.environ.setdefault("XLA_FLAGS", flags)
