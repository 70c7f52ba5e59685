"""A server on loopback that answers huggingface_hub as the Hugging Face Hub does."""

import base64
import contextlib
import hashlib
import http.server
import json
import re
import threading
import urllib.parse

COMMIT = "0123456789abcdef0123456789abcdef01234567"
TOKEN = "hf_standin"


class Repository:
    """A repository: dicts from revisions to dicts from paths to bytes."""

    def __init__(self, files=None, private=False):
        self.revisions = {"main": dict(files or {})}
        self.private = private


class Handler(http.server.BaseHTTPRequestHandler):
    """One request; the connection ends with it, so that a stopped server is silent."""

    def do_HEAD(self):
        self._file(body=False)

    def do_GET(self):
        place = self._place()
        if not place.startswith("/api/"):
            return self._file(body=True)
        asked = re.match(r"/api/models/([^/]+/[^/]+)", place)
        repository = self._repository(asked and asked[1])
        if repository is None:
            return None
        if "/tree/" in place:
            files = repository.revisions["main"]
            tree = [
                {"type": "file", "path": path, "size": len(data), "oid": "1"}
                for path, data in files.items()
            ]
            return self._json(tree)
        about = {"id": "x", "private": repository.private, "sha": COMMIT, "tags": []}
        return self._json({**about, "downloads": 0, "siblings": []})

    def do_POST(self):
        place, hub = self._place(), self.server
        body = self.rfile.read(int(self.headers["Content-Length"]))
        if place == "/api/validate-yaml":
            hub.cards.append(json.loads(body)["content"])
            return self._json({"errors": [], "warnings": []})
        if self.headers.get("Authorization") != f"Bearer {TOKEN}":
            return self._refuse(401, message="Invalid credentials")
        if place == "/api/repos/create":
            asked = json.loads(body)
            name = f"{asked['organization']}/{asked['name']}"
            url = {"url": f"{hub.address}/{name}"}
            if name in hub.repositories:
                return self._json({"error": "it exists", **url}, 409)
            private = asked.get("visibility") == "private" or asked.get("private")
            hub.repositories[name] = Repository(private=bool(private))
            return self._json(url)
        name, verb, revision = re.fullmatch(
            r"/api/models/([^/]+/[^/]+)/(preupload|commit)/(.+)", place
        ).groups()
        repository = self._repository(name)
        if repository is None:
            return None
        if verb == "preupload":
            files = [
                {"path": f["path"], "uploadMode": "regular", "shouldIgnore": False}
                for f in json.loads(body)["files"]
            ]
            return self._json({"files": files})
        files = repository.revisions.setdefault(revision, {})
        for line in body.splitlines():
            entry = json.loads(line)
            if entry["key"] == "file":
                path, content = entry["value"]["path"], entry["value"]["content"]
                files[path] = base64.b64decode(content)
            elif entry["key"] == "deletedFile":
                del files[entry["value"]["path"]]
        hub.commits += 1
        url = f"{hub.address}/{name}/commit/{COMMIT}"
        return self._json({"success": True, "commitOid": COMMIT, "commitUrl": url})

    def _place(self):
        place = urllib.parse.unquote(self.path.partition("?")[0])
        self.server.asked.append(f"{self.command} {place}")
        return place

    def _repository(self, name):
        found = self.server.repositories.get(name)
        if found is None:
            self._refuse(404, "RepoNotFound")
        return found

    def _file(self, body):
        place = self._place()
        name, revision, path = re.match(
            r"/([^/]+/[^/]+)/resolve/(.+?)/([^/]+)$", place
        ).groups()
        if self.server.status:
            return self._refuse(self.server.status)
        repository = self._repository(name)
        if repository is None:
            return None
        files = repository.revisions.get(revision)
        if files is None:
            return self._refuse(404, "RevisionNotFound")
        data = files.get(path)
        if data is None:
            return self._refuse(404, "EntryNotFound")
        self.send_response(200)
        self.send_header("X-Repo-Commit", COMMIT)
        self.send_header("ETag", f'"{hashlib.sha256(data).hexdigest()}"')
        self.send_header("Content-Length", str(self.server.claims.get(path, len(data))))
        self.end_headers()
        if body:
            with contextlib.suppress(OSError):
                while self.server.is_slow and not self.server.stopped.wait(0.05):
                    self.wfile.write(b" ")
                self.wfile.write(data)
        return None

    def _json(self, value, status=200):
        data = json.dumps(value).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def _refuse(self, status, code=None, message=None):
        self.send_response(status)
        if code:
            self.send_header("X-Error-Code", code)
        if message:
            self.send_header("X-Error-Message", message)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *_):
        pass


class Hub(http.server.ThreadingHTTPServer):
    """The server. Its attributes are what it holds, does wrong, and was asked."""

    daemon_threads = True

    def __init__(self):
        super().__init__(("127.0.0.1", 0), Handler)
        self.address = f"http://127.0.0.1:{self.server_port}"
        self.repositories, self.claims, self.asked, self.cards = {}, {}, [], []
        self.status, self.is_slow, self.commits = None, False, 0
        self.stopped = threading.Event()


@contextlib.contextmanager
def stand_in_hub():
    """Context with a running `Hub`."""
    hub = Hub()
    thread = threading.Thread(target=hub.serve_forever, args=(0.05,), daemon=True)
    thread.start()
    try:
        yield hub
    finally:
        hub.stopped.set()
        hub.shutdown()
        thread.join(10)
        hub.server_close()
