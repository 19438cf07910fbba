"""`python -m reprobox`."""

from reprobox.cli import main

main()
