"""reprobox as its console script starts it, which first tells when it is ready: READY_FD gets the monotonic clock.

Ready is the process whose interpreter has started and whose command line is imported, and which has read no argument
yet. All that a verb itself imports, reads and asks comes after.
"""

import os
import time

from reprobox.cli import main

os.write(int(os.environ.pop("READY_FD")), str(time.monotonic_ns()).encode())
main()
