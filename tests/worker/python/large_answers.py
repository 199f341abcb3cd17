"""A search with another answer at each run, of about 110 KiB, which is within the limit for one answer."""

import json
import time

url = "https://e.com/" + "x" * 2_000
entry = {"id": str(time.time_ns()), "title": "x" * 500, "url": url, "thumbnails": [{"url": url}]}
print(json.dumps({"entries": [entry] * 24}))
