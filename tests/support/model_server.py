"""A fake model server. A file in the model's folder says how it answers and when it fails.

python tests/support/model_server.py NAME PORT
"""

import json
import os
import sys
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

BEHAVIOUR = "behaviour.json"


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    behaviour: dict[str, Any] = {}
    answered = 0

    def do_GET(self) -> None:
        self._answer({"status": "ok"})

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["Content-Length"]))
        Handler.answered += 1
        after = Handler.answered - int(self.behaviour.get("after", 0))
        if after > 0 and self.behaviour.get("dies"):
            os._exit(1)
        if after > 0 and self.behaviour.get("fails"):
            self.send_error(500)
            return
        time.sleep(self.behaviour.get("slow", 0.0) if after > 0 else 0.0)
        self._answer({"choices": [{"message": {"role": "assistant", "content": self.behaviour["says"]}}]})

    def _answer(self, value: Any) -> None:
        body = json.dumps(value).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: Any) -> None:
        """Say nothing."""


if __name__ == "__main__":
    Handler.behaviour = json.loads(Path(sys.argv[1], BEHAVIOUR).read_text())
    time.sleep(Handler.behaviour.get("starts_after", 0.0))
    if Handler.behaviour.get("cannot_start"):
        sys.exit("this model cannot be loaded")
    ThreadingHTTPServer(("127.0.0.1", int(sys.argv[2])), Handler).serve_forever()
