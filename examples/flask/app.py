"""The article's program: one route that counts its calls and answers "Hello, World!".

It knows nothing of Tidegate. The port comes in $PORT; everything else is Flask as its tutorial has it. Each replica counts
for itself: the counts of all replicas together are the calls of the service.
"""

import itertools
import os

from flask import Flask

app = Flask(__name__)
calls = itertools.count(1)  # next() is one step in CPython, so threads share it without a lock


@app.get("/")
def hello():
    return "Hello, World!", {"x-calls": str(next(calls))}


if __name__ == "__main__":
    app.run(host="127.0.0.1", port=int(os.environ["PORT"]), threaded=True)
