"""`python -m fmtutor.images`."""

import sys

from fmtutor.images.cli import main

sys.exit(main())
