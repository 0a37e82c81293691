"""`python -m mediadht`: the same as the `mediadht` command."""

from __future__ import annotations

import sys

from mediadht.cli.main import main

if __name__ == "__main__":
    sys.exit(main())
