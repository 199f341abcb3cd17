"""Downloads normally in a job. A search reports which of the forbidden ADDRESSES it has reached."""

import os
import socket
import sys
import urllib.request

from stand_in import HOME, answer_search, finish

video = HOME + "/out/media.mp4"
if os.path.isdir(os.path.dirname(video)):
    urllib.request.urlretrieve("http://videos.example.com/sample.mp4", video)
    finish(video)
    sys.exit()
reached = []
for address in os.environ["ADDRESSES"].split():
    host, port = address.rsplit(":", 1)
    family = socket.AF_INET6 if host.startswith("[") else socket.AF_INET
    to = (host.strip("[]"), int(port))
    for kind in (socket.SOCK_STREAM, socket.SOCK_DGRAM):
        try:
            with socket.socket(family, kind) as s:
                s.settimeout(2)
                s.connect(to)
                s.send(b"x")
                reached.append(address)
        except PermissionError:
            pass
        except OSError as error:
            reached.append(address + str(error))
answer_search(reached)
