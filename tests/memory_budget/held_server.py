"""A replica that takes whole requests in and answers none of them until a file is there.

held_server.py PORT FILE MEMBERS: MEMBERS is the list of a control group that it goes over to, since a replica's memory is not
its node's.
"""

import os
import sys
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

PORT, RELEASED, MEMBERS = int(sys.argv[1]), sys.argv[2], sys.argv[3]


class Held(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self):
        self.answer()

    def do_POST(self):
        while not os.path.exists(RELEASED):
            time.sleep(0.01)
        left = int(self.headers["content-length"])
        while left > 0:
            left -= len(self.rfile.read(min(left, 65536)))
        self.answer()

    def answer(self):
        self.send_response(200)
        self.send_header("content-length", "2")
        self.end_headers()
        self.wfile.write(b"ok")

    def log_message(self, *_):
        pass


with open(MEMBERS, "w") as members:
    members.write(str(os.getpid()))
ThreadingHTTPServer(("127.0.0.1", PORT), Held).serve_forever()
