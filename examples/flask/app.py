"""The article's program: one route that counts its calls and answers "Hello, World!".

It knows nothing of Tidegate. The port comes in $PORT; everything else is Flask as its tutorial has it. Each replica counts
for itself: the counts of all replicas together are the calls of the service. `/calls` tells the count, so that the program can
be scaled by it.
"""

import os
import threading

from flask import Flask

app = Flask(__name__)
calls = 0
lock = threading.Lock()  # requests are answered by threads


@app.get("/")
def hello():
    global calls
    with lock:
        calls += 1
        count = calls
    return "Hello, World!", {"x-calls": str(count)}


@app.get("/calls")
def told():
    return {"calls": calls}


if __name__ == "__main__":
    app.run(host="127.0.0.1", port=int(os.environ["PORT"]), threaded=True)
