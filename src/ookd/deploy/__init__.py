"""Models as graphs for other runtimes.

The runtimes report their use to their makers unless told otherwise, so they are told before any is imported.
"""

import os
import sys

os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
sys.modules.setdefault("openvino_telemetry", None)  # type: ignore[arg-type]  # as if it were not installed
