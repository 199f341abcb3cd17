"""Gateway and worker under `up`, with a fake yt-dlp that succeeds without network access."""

import re
import shlex

from instance import Running, free_ports

# The suites test the API, with thousands of requests, and not the downloads.
YT_DLP = r"""#!/bin/sh
for word; do case $word in home:*) out=${{word#home:}} ;; esac; done
case "$*" in
  *--version) echo 2026.11.01 ;;
  *--skip-download*)
    printf 'WEBVTT\n\n00:01.000 --> 00:02.000\nHello\n' > "$out/media.en.vtt" ;;
  *media.%*)
    cp {clip} "$out/media.mp4"
    echo 'B {{"title": "A clip", "height": 240}}'
    echo 'A {{"filepath": "'"$out/media.mp4"'"}}' ;;
  *ytsearch*) echo '{{"entries": [{{"id": "a", "title": "A", "duration": 12.5, "url": "https://example.com/a"}}, null]}}' ;;
  *) echo '{{"id": "a", "title": "A", "duration": 12, "formats": [{{"format_id": "1", "ext": "mp4", "height": 240}}]}}' ;;
esac
"""

# The address from which downloads are allowed.
SOURCE = "127.0.0.1:9"


class Whole(Running):
    """An instance without low rate limits."""

    def __init__(self, binary, folder, clip):
        folder.mkdir()
        super().__init__(binary, folder)
        (worker,) = free_ports(1)
        yt_dlp, policy = folder / "yt-dlp", folder / "policies" / "worker.toml"
        yt_dlp.write_text(YT_DLP.format(clip=shlex.quote(str(clip))))
        yt_dlp.chmod(0o755)
        policy.write_text(re.sub(r'limit = "\d+/minute"', 'limit = "1000000/minute"', policy.read_text()))
        self.config.write_text(f"""{self.listeners()}
[bans]
enabled = false
[worker]
listen = "127.0.0.1:{worker}"
yt_dlp = "{yt_dlp}"
readable = ["{clip}"]
allow_private = ["{SOURCE}"]
[[app]]
name = "downloads"
policy = "worker"
upstream = "127.0.0.1:{worker}"
""")
        self.start("up")
