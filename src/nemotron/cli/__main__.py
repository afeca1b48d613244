"""`python -m nemotron.cli` is `nemotron`."""

import sys

from nemotron.cli.app import main

sys.exit(main())
