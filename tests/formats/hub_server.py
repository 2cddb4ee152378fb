"""A server on this machine that speaks the hub's protocol, for the hub's ordinary client."""

from __future__ import annotations

import hashlib
import json
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import unquote, urlsplit

Repositories = Mapping[str, Mapping[str, Path]]
"""Folders by repository and revision."""


def commit(repository: str, revision: str) -> str:
    """Returns the commit that a revision stands for."""
    return hashlib.sha1(f"{repository}@{revision}".encode()).hexdigest()


@contextmanager
def hub(repositories: Repositories) -> Iterator[tuple[str, list[str]]]:
    """Serves repositories; yields the address and the paths that were asked for."""
    asked: list[str] = []

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_HEAD(self) -> None:
            self._answer()

        def do_GET(self) -> None:
            self._answer()

        def log_message(self, format: str, *args: object) -> None:
            asked.append(f"{self.command} {self.path}")

        def _answer(self) -> None:
            parts = [unquote(part) for part in urlsplit(self.path).path.strip("/").split("/")]
            if parts[:2] == ["api", "models"]:
                repository, kind, revision = "/".join(parts[2:4]), *(*parts[4:6], "", "")[:2]
                folder = self._folder(repository, revision or "main")
                if folder is not None:
                    self._list(folder, repository, kind, revision or "main")
                return
            repository, revision, name = "/".join(parts[:2]), parts[3], "/".join(parts[4:])
            folder = self._folder(repository, revision)
            if folder is None:
                return
            file = folder / name
            if not file.is_file():
                self._refuse("EntryNotFound")
                return
            content = file.read_bytes()
            self._send(content, "application/octet-stream", {
                "X-Repo-Commit": self._commit(repository, revision),
                "ETag": f'"{hashlib.sha256(content).hexdigest()}"',
                "Accept-Ranges": "bytes",
            })  # fmt: skip

        def _folder(self, repository: str, revision: str) -> Path | None:
            found = repositories.get(repository)
            if found is None:
                self._refuse("RepoNotFound")
                return None
            by_commit = {commit(repository, name): folder for name, folder in found.items()}
            folder = {**by_commit, **found}.get(revision)
            if folder is None:
                self._refuse("RevisionNotFound")
            return folder

        def _commit(self, repository: str, revision: str) -> str:
            named = revision in repositories[repository]
            return commit(repository, revision) if named else revision

        def _list(self, folder: Path, repository: str, kind: str, revision: str) -> None:
            files = sorted(file for file in folder.rglob("*") if file.is_file())
            names = [str(file.relative_to(folder)) for file in files]
            said: object = [
                {"type": "file", "path": name, "size": file.stat().st_size, "oid": commit("", name)}
                for name, file in zip(names, files, strict=True)
            ]
            if kind != "tree":
                said = {
                    "id": repository,
                    "modelId": repository,
                    "sha": self._commit(repository, revision),
                    "private": False,
                    "downloads": 0,
                    "tags": [],
                    "siblings": [{"rfilename": name} for name in names],
                }
            self._send(json.dumps(said).encode(), "application/json", {})

        def _refuse(self, code: str) -> None:
            self._send(b"{}", "application/json", {"X-Error-Code": code}, status=404)

        def _send(
            self, content: bytes, kind: str, headers: Mapping[str, str], status: int = 200
        ) -> None:
            self.send_response(status)
            for name, value in headers.items():
                self.send_header(name, value)
            self.send_header("Content-Type", kind)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(content)

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}", asked
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
