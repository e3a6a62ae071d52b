"""Libraries kept quiet and off the network: progress bars, known harmless warnings and the hub switched off."""

import os
import sys
import warnings

NOISE = ("IProgress not found", "CUDA initialization", "Can't initialize NVML", ".*pin_memory",  # harmless, by name
         ".*is_gradient_checkpointing")
QUIET = ("HF_HUB_DISABLE_PROGRESS_BARS", "HF_DATASETS_DISABLE_PROGRESS_BARS")
OFFLINE = ("HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE", "HF_DATASETS_OFFLINE")


def settle(*, quiet: bool = True, offline: bool = True) -> None:
    """Switch progress bars, known warnings and the hub off, for libraries already imported and for those to come."""
    os.environ.update(dict.fromkeys((QUIET if quiet else ()) + (OFFLINE if offline else ()), "1"))
    os.environ.update(TOKENIZERS_PARALLELISM="false", TRANSFORMERS_VERBOSITY="error")
    for message in NOISE:
        warnings.filterwarnings("ignore", message=message)
    for name in ("transformers.utils.logging", "datasets.utils") if quiet else ():
        if library := sys.modules.get(name):  # it has read its environment already
            library.disable_progress_bar()
    if hub := sys.modules.get("huggingface_hub.constants"):
        hub.HF_HUB_OFFLINE = offline or hub.HF_HUB_OFFLINE
    if logging := sys.modules.get("transformers.utils.logging"):
        logging.set_verbosity_error()
