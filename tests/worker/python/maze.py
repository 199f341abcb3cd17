"""Creates folders nested thousands deep, beyond the longest usable path, and folders that nobody may open. Then waits for WAIT seconds."""

import os
import time

home = os.environ["HOME"]
for name in ("a", "b"):
    os.chdir(home)
    for step in range(3000):
        os.mkdir("maze-" + name)
        open("file", "w").close()
        os.chdir("maze-" + name)
    os.mkdir("closed", 0o700)
    open("closed/file", "w").close()
os.chdir(home)
os.mkdir("sealed", 0)
os.mkdir("blind", 0o300)
open("blind/file", "w").close()
os.mkdir("blind/blind", 0o100)
os.mkdir("shut", 0o500)
time.sleep(float(os.environ["WAIT"]))
