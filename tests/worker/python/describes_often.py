"""A download that describes its source again and again, differently each time."""

import sys

from stand_in import describe

for number in range(500):
    describe(number)
sys.exit("ERROR: enough")
