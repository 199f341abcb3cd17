"""A search that leaves processes in sessions of their own."""

import subprocess

from stand_in import answer_search

subprocess.Popen(["setsid", "sh", "-c", "setsid sleep 1000 & sleep 1000"], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
answer_search("started")
