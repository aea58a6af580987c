"""The other end of tests/reference: one JSON request a line in, one JSON answer a line out."""

import importlib
import json
import os
import sys
import traceback
import warnings
from pathlib import Path


def main():
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # whatever libraries print goes to stderr, answers alone to stdout
    sys.path.insert(0, str(Path(__file__).parent))
    warnings.filterwarnings("ignore")
    for line in sys.stdin:
        request = json.loads(line)
        module, name = request["function"].rsplit(".", 1)
        folder = (Path(request["folder"]),) if "folder" in request else ()
        try:
            answer = {"result": getattr(importlib.import_module(module), name)(*folder, **request["arguments"])}
        except Exception:
            answer = {"error": traceback.format_exc()}
        answers.write(json.dumps(answer) + "\n")
        answers.flush()


if __name__ == "__main__":
    main()
