"""A search that reports its first and last two arguments, and the names of its environment variables."""

import json
import os
import sys

first, last, environment = ("\n".join(texts) for texts in (sys.argv[1:3], sys.argv[-2:], os.environ))
print(json.dumps({"entries": [{"uploader": first, "id": last, "title": environment}]}))
