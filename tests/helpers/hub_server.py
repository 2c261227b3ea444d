"""A stand-in for the Hugging Face Hub on the loopback address: repositories that keep what is uploaded.

It answers the requests that the Hub's client makes to create a repository, commit to it and read it. Files with
the ending .h5 go through large file storage, as on the Hub.
"""

import base64
import hashlib
import http.server
import json
import re
import threading
import time
import urllib.parse

TOKEN = "hf_test"


class HubServer(http.server.ThreadingHTTPServer):
    """Serves until `close`.

    Attributes:
        repositories: from ``user/name`` to a list of commits: (id, {path: bytes}).
        private: from ``user/name`` to whether it was asked to be visible to its owner alone.
        requests: "METHOD path" of each request so far.
        delay: seconds that it takes to answer a request for a file.
    """

    def __init__(self):
        super().__init__(("127.0.0.1", 0), Handler)
        self.repositories, self.private, self.large_files, self.requests = {}, {}, {}, []
        self.delay = 0.0
        threading.Thread(target=self.serve_forever, daemon=True).start()

    @property
    def url(self):
        return f"http://127.0.0.1:{self.server_address[1]}"

    def commit(self, repository, changes):
        """Adds a commit with these files changed, or deleted if None; returns its id."""
        commits = self.repositories[repository]
        files = {**(commits[-1][1] if commits else {}), **changes}
        files = {path: content for path, content in files.items() if content is not None}
        content = repr((len(commits), sorted(files.items()))).encode()
        commits.append((hashlib.sha1(content).hexdigest(), files))
        return commits[-1][0]

    def files(self, repository, revision="main"):
        """Returns (id, {path: bytes}) of the branch main or a commit; None if it does not exist."""
        commits = self.repositories[repository]
        found = commits[-1:] if revision == "main" else [commit for commit in commits if commit[0] == revision]
        return found[0] if found else None

    def close(self):
        self.shutdown()
        self.server_close()


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self):
        path = self._start()
        if match := re.fullmatch(r"/api/models/([^/]+/[^/]+)(?:/(revision|tree)/([^/]+))?", path):
            repository, kind, revision = match.groups()
            if (found := self._find(repository, revision or "main")) is not None:
                commit, files = found
                siblings = [{"rfilename": name, "size": len(content)} for name, content in files.items()]
                info = {"id": repository, "sha": commit, "siblings": siblings}
                self._json([_tree_entry(*file) for file in files.items()] if kind == "tree" else info)
        elif match := re.fullmatch(r"/([^/]+/[^/]+)/resolve/([^/]+)/(.+)", path):
            repository, revision, name = match.groups()
            time.sleep(self.server.delay)
            if (found := self._find(repository, revision)) is not None:
                commit, files = found
                if name not in files:
                    return self._fail(404, "EntryNotFound")
                etag = _tree_entry(name, files[name])["oid"]
                self._send(200, files[name], {"ETag": f'"{etag}"', "X-Repo-Commit": commit})
        else:
            self._fail(404, None)

    do_HEAD = do_GET

    def do_POST(self):
        path, server = self._start(), self.server
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        if path == "/api/validate-yaml":  # the Hub accepts only known licenses
            found = re.search(r"^license: (.*)$", json.loads(body)["content"], re.MULTILINE)
            known = found is None or found[1] in ("apache-2.0", "mit", "bsd-3-clause", "other", "unknown")
            errors = [] if known else [{"message": '"license" must be one of [apache-2.0, mit, ...]'}]
            return self._json({"errors": errors, "warnings": []}, 200 if known else 400)
        if self.headers.get("Authorization") != f"Bearer {TOKEN}":
            return self._fail(401, None)
        if path == "/api/repos/create":
            request = json.loads(body)
            name = f"{request.get('organization') or 'me'}/{request['name']}"
            if name in server.repositories:
                return self._json({"url": f"{server.url}/{name}"}, 409)
            server.repositories[name] = []
            server.private[name] = request.get("private", request.get("visibility") == "private")
            server.commit(name, {".gitattributes": b"*.h5 filter=lfs\n"})
            return self._json({"url": f"{server.url}/{name}"})
        if match := re.fullmatch(r"/api/models/([^/]+/[^/]+)/preupload/main", path):
            names = [file["path"] for file in json.loads(body)["files"]]
            modes = {name: "lfs" if name.endswith(".h5") else "regular" for name in names}
            files = [{"path": name, "uploadMode": mode, "shouldIgnore": False} for name, mode in modes.items()]
            return self._json({"files": files})
        if match := re.fullmatch(r"/([^/]+/[^/]+)\.git/info/lfs/objects/batch", path):
            objects = json.loads(body)["objects"]
            for entry in objects:
                entry["actions"] = {"upload": {"href": f"{server.url}/large/{entry['oid']}"}}
            return self._json({"transfer": "basic", "objects": objects})
        if match := re.fullmatch(r"/api/models/([^/]+/[^/]+)/commit/main", path):
            changes = {}
            for line in map(json.loads, body.splitlines()):
                value = line["value"]
                if line["key"] == "file":
                    changes[value["path"]] = base64.b64decode(value["content"])
                elif line["key"] == "lfsFile":
                    changes[value["path"]] = server.large_files[value["oid"]]
                elif line["key"] == "deletedFile":
                    changes[value["path"]] = None
            commit = server.commit(match[1], changes)
            return self._json({"commitUrl": f"{server.url}/{match[1]}/commit/{commit}", "commitOid": commit})
        self._fail(404, None)

    def do_PUT(self):
        path = self._start()
        content = self.rfile.read(int(self.headers["Content-Length"]))
        if hashlib.sha256(content).hexdigest() != path.removeprefix("/large/"):
            return self._fail(422, None)
        self.server.large_files[path.removeprefix("/large/")] = content
        self._send(200, b"")

    def log_message(self, *arguments):
        pass

    def _start(self):
        path = urllib.parse.unquote(urllib.parse.urlsplit(self.path).path)
        self.server.requests.append(f"{self.command} {path}")
        return path

    def _find(self, repository, revision):
        """Like `HubServer.files`, but sends an error if the repository or revision does not exist."""
        if repository not in self.server.repositories:
            return self._fail(404, "RepoNotFound")
        return self.server.files(repository, revision) or self._fail(404, "RevisionNotFound")

    def _json(self, content, status=200):
        self._send(status, json.dumps(content).encode(), {"Content-Type": "application/json"})

    def _fail(self, status, code):
        self._send(status, b"{}", {"X-Error-Code": code} if code else {})

    def _send(self, status, body, headers=None):
        self.send_response(status)
        for key, value in {"Content-Length": str(len(body)), **(headers or {})}.items():
            self.send_header(key, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)


def _tree_entry(name, content):
    """Lists a file like the Hub: its git blob, or its large file."""
    entry = {"type": "file", "path": name, "size": len(content)}
    if name.endswith(".h5"):
        sha = hashlib.sha256(content).hexdigest()
        return {**entry, "oid": sha, "lfs": {"oid": sha, "size": len(content), "pointerSize": 130}}
    return {**entry, "oid": hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()}
