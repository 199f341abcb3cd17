"""Reading a page and fetching subtitles should keep almost nothing; this fills the disk instead. A download works."""

import sys
import time

from stand_in import HOME, MP4, finish


def fill():
    for number in range(20):
        with open(HOME + "/%d" % number, "wb") as file:
            file.write(b"x" * (60 << 20))
        time.sleep(0.5)


if "--skip-download" in sys.argv:
    fill()
    with open(HOME + "/media.en.vtt", "w") as subtitles:
        subtitles.write("WEBVTT\n\n00:01.000 --> 00:02.000\nHello\n")
elif "-J" in sys.argv:
    fill()
    print('{"title": "A"}')
else:
    with open(HOME + "/out/media.mp4", "wb") as video:
        video.write(MP4 + b", and more")
    finish(HOME + "/out/media.mp4")
