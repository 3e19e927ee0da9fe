import atexit
import os
import shutil
import tempfile

if os.environ.get("KERAS_BACKEND") == "jax":
    # Most of the time goes into compiling, each program for one call: quickly, and once for all
    # processes, which get the folder from the one that starts them.
    flags = (
        "--xla_backend_optimization_level=0",
        "--xla_llvm_disable_expensive_passes=true",
        "--xla_cpu_use_fusion_emitters=false",
    )
    os.environ.setdefault("XLA_FLAGS", " ".join(flags))
    if "JAX_COMPILATION_CACHE_DIR" not in os.environ:
        folder = os.environ["JAX_COMPILATION_CACHE_DIR"] = tempfile.mkdtemp()
        atexit.register(shutil.rmtree, folder, ignore_errors=True)
    os.environ["JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS"] = "0"
    os.environ["JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES"] = "-1"
