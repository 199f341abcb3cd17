"""A search that runs JavaScript as yt-dlp runs a page's scripts: compiled just in time, in threads, and killed if it takes too long."""

import subprocess
import sys

from stand_in import answer_search

deno = next(word for word in sys.argv if word.startswith("deno:"))[5:]
command = [deno, "run", "--ext=js", "--no-code-cache", "--no-prompt", "--no-remote", "--no-lock", "--node-modules-dir=none",
           "--no-config", "--no-npm", "--cached-only", "-"]
script = """
let sum = 0;
for (let i = 0; i < 30000000; i++) sum = (sum * 31 + i) % 65537;
console.log(typeof sum, [3, 1, 2].toSorted().join());
"""
run = subprocess.run(command, input=script, capture_output=True, text=True)
endless = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
try:
    endless.communicate("console.log(1); for (;;) {}", timeout=3)
except subprocess.TimeoutExpired:
    endless.kill()
answer_search([run.returncode, run.stdout, run.stderr, endless.wait()])
