"""Serves one file on loopback for scripts/run, so that a first download works without internet access.

Prints the port, and exits with the process that started it."""

import http.server
import os
import shutil
import sys
import threading
import time

NAME = "/sample.mp4"


class OneFile(http.server.BaseHTTPRequestHandler):
    """Serves the file and nothing else."""

    file = ""

    def do_HEAD(self):
        self.begin()

    def do_GET(self):
        if self.begin():
            with open(self.file, "rb") as source:
                shutil.copyfileobj(source, self.wfile)

    def begin(self):
        if self.path != NAME:
            self.send_error(404)
            return False
        self.send_response(200)
        self.send_header("Content-Type", "video/mp4")
        self.send_header("Content-Length", str(os.path.getsize(self.file)))
        self.end_headers()
        return True

    def log_message(self, *_):
        pass


def end_with(parent):
    while os.getppid() == parent:
        time.sleep(0.5)
    os._exit(0)


def main():
    OneFile.file = sys.argv[1]
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), OneFile)
    threading.Thread(target=end_with, args=(os.getppid(),), daemon=True).start()
    print(server.server_port, flush=True)
    os.close(1)
    try:
        server.serve_forever()
    except KeyboardInterrupt:
        pass


main()
