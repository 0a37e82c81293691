"""`python -m mediadht_sim` is `mediadht-sim`."""

from __future__ import annotations

import sys

from mediadht_sim.cli.main import main

if __name__ == "__main__":
    sys.exit(main())
