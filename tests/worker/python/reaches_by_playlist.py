"""A search that tries to reach another user's VIDEO by playlists and links. Reports the sizes of its copies, and which links worked."""

import os
import subprocess

from stand_in import HOME, answer_search

video = os.environ["VIDEO"]
playlists = {
    "a.m3u8": "#EXTM3U\n#EXT-X-TARGETDURATION:6\n#EXTINF:6,\nfile://" + video + "\n#EXT-X-ENDLIST\n",
    "b.ffconcat": "ffconcat version 1.0\nfile " + video + "\n",
}
sizes = []
for name, text in playlists.items():
    with open(HOME + "/" + name, "w") as playlist:
        playlist.write(text)
    out = HOME + "/" + name + ".mkv"
    subprocess.run(["ffmpeg", "-v", "quiet", "-nostdin", "-protocol_whitelist", "file,http,tcp,concat,crypto,data"]
                   + (["-safe", "0"] if name == "b.ffconcat" else ["-allowed_extensions", "ALL"])
                   + ["-i", HOME + "/" + name, "-c", "copy", out])
    sizes.append(os.path.getsize(out) if os.path.exists(out) else 0)
    try:
        os.link(video, HOME + "/linked")
        sizes.append("linked")
    except OSError:
        pass
    try:
        os.path.lexists(HOME + "/s") or os.symlink(video, HOME + "/s")
        open(HOME + "/s").close()
        sizes.append("by a link")
    except OSError:
        pass
answer_search(sizes)
