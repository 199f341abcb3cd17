"""A download whose result has a second name, by which it could be changed later."""

import os

from stand_in import HOME, MP4, finish

with open(HOME + "/out/media.mp4", "wb") as video:
    video.write(MP4 + bytes(1000))
os.link(HOME + "/out/media.mp4", HOME + "/out/kept")
finish(HOME + "/out/media.mp4")
