"""Runs the real yt-dlp, which is beside this file, without the arguments that restrict ffmpeg, which would otherwise copy what a playlist names."""

import os
import runpy
import sys

words, args = iter(sys.argv[1:]), []
for word in words:
    if word in ("--postprocessor-args", "--downloader-args"):
        next(words)
    else:
        args.append(word)
if args[-1].endswith("?meta"):
    args.insert(0, "--embed-metadata")
sys.argv[1:] = args
runpy.run_path(os.path.join(os.path.dirname(__file__), "real-yt-dlp"), run_name="__main__")
