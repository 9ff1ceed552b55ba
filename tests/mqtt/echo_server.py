"""A server of the user's own, as any service may be: POST gives back what came, or does what the body says.

`sleep S` takes S seconds, `big N` answers N bytes, `fail` answers 500. Each request stands in the file, a line each, before
it is answered, so that a test knows what was run.
"""

import json
import sys
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_POST(self):
        body = self.rfile.read(int(self.headers["content-length"])).decode(errors="replace")
        with open(sys.argv[2], "a") as runs:
            runs.write(body + "\n")
        word, _, value = body.partition(" ")
        if word == "sleep":
            time.sleep(float(value))
        if word == "fail":
            return self.answer(500, b"it does not work")
        if word == "big":
            return self.answer(200, b"x" * int(value))
        headers = {name.lower(): value for name, value in self.headers.items()}
        self.answer(200, json.dumps({"path": self.path, "headers": headers, "body": body}).encode())

    def answer(self, status, body):
        self.send_response(status)
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        pass


ThreadingHTTPServer(("127.0.0.1", int(sys.argv[1])), Handler).serve_forever()
