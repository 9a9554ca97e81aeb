"""The part of the Hugging Face Hub's HTTP API that its Python clients use, as an ASGI application.

Faults can be arranged through `POST /_faults` with a JSON object (an empty one clears them):
    {"die_on": "/commit/"}      the process ends when a request's path holds this text
    {"hold": "/preupload/"}     such requests wait until the fault is cleared
    {"refuse": "/commit/", "status": "429", "times": "2"}  so many of them are answered with that status
and `GET /_requests` lists the requests seen since it was last asked, as "METHOD path".
"""

import asyncio
import base64
import json
import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs

import yaml
from hub_store import HubError, Store, is_large
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.middleware.base import BaseHTTPMiddleware, RequestResponseEndpoint
from starlette.requests import Request
from starlette.responses import FileResponse, JSONResponse, Response
from starlette.routing import Route

REPOSITORY = "/api/{kind:str}/{owner:str}/{name:str}"
PREFIXES = {"datasets": "/datasets", "spaces": "/spaces", "models": ""}
FRONT_MATTER = re.compile(r"^\s*---\r?\n(.*?)\r?\n---[ \t]*(\r?\n|$)", re.DOTALL)


def make_app(folder: Path, tokens: Mapping[str, Mapping[str, Any]]) -> Starlette:
    """`tokens`: {token: {"name": user, "write": may write to the user's own namespace}}."""
    store = Store(folder)
    faults: dict[str, str] = {}
    seen: list[str] = []

    def user(request: Request) -> Mapping[str, Any] | None:
        header = request.headers.get("authorization", "")
        if not header:
            return None
        if header.removeprefix("Bearer ") not in tokens:
            raise HubError(401, "Invalid credentials in Authorization header")
        return tokens[header.removeprefix("Bearer ")]

    def repository_key(request: Request, kind: str | None = None) -> str:
        p = request.path_params
        return f"{kind or p['kind']}/{p['owner']}/{p['name']}"

    def readable(request: Request, kind: str | None = None) -> str:
        key, who = repository_key(request, kind), user(request)
        if key not in store.repositories or (
                store.repositories[key]["private"] and (who is None or who["name"] != key.split("/")[1])):
            # Like the Hub, which does not tell strangers whether a private repository exists.
            raise HubError(404 if who else 401, "Repository not found", "RepoNotFound")
        return key

    def may_write(request: Request, owner: str) -> None:
        who = user(request)
        if who is None:
            raise HubError(401, "Invalid username or password.")
        if not who["write"] or who["name"] != owner:
            raise HubError(403, "You don't have the rights to write to this namespace with this token")

    def writable(request: Request, kind: str | None = None) -> str:
        key = readable(request, kind)
        may_write(request, key.split("/")[1])
        return key

    def url(request: Request, key: str) -> str:
        kind, owner, name = key.split("/")
        return f"{str(request.base_url).rstrip('/')}{PREFIXES[kind]}/{owner}/{name}"

    # Accounts and repositories
    async def whoami(request: Request) -> Response:
        who = user(request)
        if who is None:
            raise HubError(401, "Invalid username or password.")
        role = "write" if who["write"] else "read"
        return JSONResponse({"type": "user", "name": who["name"], "orgs": [],
                             "auth": {"accessToken": {"displayName": "local", "role": role}}})

    async def create(request: Request) -> Response:
        body = await request.json()
        who = user(request)
        owner = body.get("organization") or (who["name"] if who else "")
        may_write(request, owner)
        key = f"{body.get('type') or 'model'}s/{owner}/{body['name']}"
        private = body.get("visibility") == "private" or bool(body.get("private"))
        try:
            store.create(key, private)
        except HubError as error:
            raise HubError(error.status, error.message, url=url(request, key)) from error
        return JSONResponse({"url": url(request, key), "name": f"{owner}/{body['name']}"})

    async def delete(request: Request) -> Response:
        body = await request.json()
        may_write(request, body["organization"])
        store.delete(f"{body.get('type') or 'model'}s/{body['organization']}/{body['name']}")
        return JSONResponse({})

    async def settings(request: Request) -> Response:
        key, body = writable(request), await request.json()
        store.set_private(key, body.get("visibility") == "private" or bool(body.get("private")))
        return JSONResponse({})

    async def validate_yaml(request: Request) -> Response:
        body = await request.json()
        match = FRONT_MATTER.match(body["content"])
        if match is None:
            return JSONResponse({"errors": [], "warnings": [{"message": "empty or missing yaml metadata in repo card"}]})
        try:
            problems = card_problems(yaml.safe_load(match[1]))
        except yaml.YAMLError as error:
            problems = [f"not valid YAML: {error}"]
        return JSONResponse({"errors": [{"message": p} for p in problems], "warnings": []},
                            status_code=400 if problems else 200)

    # Uploading
    async def preupload(request: Request) -> Response:
        key, body = writable(request), await request.json()
        files = store.resolve(key, request.path_params["revision"])[1]["files"]
        answers = []
        for file in body["files"]:
            large = is_large(file["path"], file["size"])
            there = files.get(file["path"])
            answers.append({"path": file["path"], "uploadMode": "lfs" if large else "regular", "shouldIgnore": False,
                            "oid": there and (there["sha256"] if there["large"] else there["git"])})
        return JSONResponse({"files": answers})

    async def lfs_batch(request: Request) -> Response:
        key = writable(request, request.path_params.get("kind") or "models")
        base = url(request, key)
        objects = []
        for item in (await request.json())["objects"]:
            answer = {"oid": item["oid"], "size": item["size"]}
            if not (store.blobs / item["oid"]).exists():
                answer["actions"] = {"upload": {"href": f"{base}/lfs/{item['oid']}"},
                                     "verify": {"href": f"{base}/lfs/{item['oid']}/verify"}}
            objects.append(answer)
        return JSONResponse({"transfer": "basic", "objects": objects})

    async def lfs_put(request: Request) -> Response:
        kept = store.put_blob(await request.body())
        if kept["sha256"] != request.path_params["oid"]:
            (store.blobs / kept["sha256"]).unlink()
            raise HubError(400, "the content does not have the announced SHA-256")
        return Response()

    async def lfs_verify(request: Request) -> Response:
        exists = (store.blobs / request.path_params["oid"]).exists()
        return Response(status_code=200 if exists else 404)

    async def commit(request: Request) -> Response:
        key = writable(request)
        header: dict[str, Any] = {}
        changes: list[tuple[str, Any]] = []
        for line in (await request.body()).splitlines():
            item = json.loads(line)
            value = item["value"]
            if item["key"] == "header":
                header = value
            elif item["key"] == "file":
                changes.append((value["path"], store.put_blob(base64.b64decode(value["content"])) | {"large": False}))
            elif item["key"] == "lfsFile":
                changes.append((value["path"], {"sha256": value["oid"], "size": (store.blobs / value["oid"]).stat().st_size,
                                                "git": value["oid"][:40], "large": True}))
            else:  # deletedFile, deletedFolder
                changes.append((value["path"], None))
        oid = store.commit(key, request.path_params["revision"], header, changes)
        return JSONResponse({"success": True, "commitOid": oid, "commitUrl": f"{url(request, key)}/commit/{oid}",
                             "hookOutput": ""})

    async def branch(request: Request) -> Response:
        body = await request.json()
        store.reference(writable(request), "branches", request.path_params["revision"],
                        body.get("startingPoint") or "main")
        return JSONResponse({})

    async def tag(request: Request) -> Response:
        body = await request.json()
        store.reference(writable(request), "tags", body["tag"], request.path_params["revision"])
        return JSONResponse({})

    # Reading
    async def info(request: Request) -> Response:
        key = readable(request)
        oid, commit = store.resolve(key, request.path_params.get("revision", "main"))
        blobs = request.query_params.get("blobs")
        siblings = [{"rfilename": p, **(blob_fields(f) if blobs else {})} for p, f in sorted(commit["files"].items())]
        name = key.split("/", 1)[1]
        return JSONResponse({"_id": name, "id": name, "author": key.split("/")[1], "sha": oid,
                             "private": store.repositories[key]["private"], "disabled": False, "gated": False,
                             "lastModified": commit["date"], "createdAt": commit["date"], "tags": [], "downloads": 0,
                             "likes": 0, "siblings": siblings})

    async def tree(request: Request) -> Response:
        key = readable(request)
        oid, commit = store.resolve(key, request.path_params["revision"])
        root = request.path_params.get("path", "").strip("/")
        recursive = request.query_params.get("recursive", "").lower() in ("true", "1")
        prefix = f"{root}/" if root else ""
        inside = {p: f for p, f in commit["files"].items() if p.startswith(prefix)}
        if root and not inside:
            raise HubError(404, f"{root} does not exist on {oid}", "EntryNotFound")
        folders = {p[:i] for p in inside for i in range(len(prefix), len(p)) if p[i] == "/"}
        entries = [{"type": "directory", "oid": oid, "size": 0, "path": f} for f in folders]
        entries += [{"type": "file", "path": p, **tree_fields(f)} for p, f in inside.items()]
        if not recursive:
            entries = [e for e in entries if "/" not in e["path"][len(prefix):]]
        if request.query_params.get("expand", "").lower() in ("true", "1"):
            entries = [e | {"lastCommit": {"id": oid, "title": commit["title"], "date": commit["date"]}} for e in entries]
        return JSONResponse(sorted(entries, key=lambda e: e["path"]))

    async def paths_info(request: Request) -> Response:
        key, form = readable(request), parse_qs((await request.body()).decode())
        oid, commit = store.resolve(key, request.path_params["revision"])
        entries: list[dict[str, Any]] = []
        for path in form["paths"]:
            if path in commit["files"]:
                entries.append({"type": "file", "path": path, **tree_fields(commit["files"][path])})
            elif any(p.startswith(f"{path}/") for p in commit["files"]):
                entries.append({"type": "directory", "oid": oid, "size": 0, "path": path})
        return JSONResponse(entries)

    async def refs(request: Request) -> Response:
        repository = store.get(readable(request))
        listed = {kind: [{"name": n, "ref": f"refs/{where}/{n}", "targetCommit": oid}
                         for n, oid in repository[kind].items()]
                  for kind, where in (("branches", "heads"), ("tags", "tags"))}
        return JSONResponse({"converts": [], "pullRequests": [], **listed})

    async def commits(request: Request) -> Response:
        history = store.history(readable(request), request.path_params["revision"])
        return JSONResponse([{"id": oid, "title": c["title"], "message": "", "date": c["date"],
                              "authors": [{"user": "local"}]} for oid, c in history])

    async def resolve(request: Request) -> Response:
        key = readable(request, request.path_params.get("kind") or "models")
        oid, file = store.file(key, request.path_params["revision"], request.path_params["path"])
        headers = {"X-Repo-Commit": oid, "ETag": f'"{file["sha256"] if file["large"] else file["git"]}"',
                   "Accept-Ranges": "bytes"}
        if file["large"]:
            headers |= {"X-Linked-Etag": headers["ETag"], "X-Linked-Size": str(file["size"])}
        return FileResponse(store.blobs / file["sha256"], headers=headers, media_type="application/octet-stream")

    # For tests
    async def set_faults(request: Request) -> Response:
        faults.clear()
        faults.update(await request.json())
        return JSONResponse({})

    async def requests_seen(request: Request) -> Response:
        listed = [*seen]
        seen.clear()
        return JSONResponse(listed)

    async def gate(request: Request, call_next: RequestResponseEndpoint) -> Response:
        path = request.url.path
        if not path.startswith("/_"):
            seen.append(f"{request.method} {path}")
            if faults.get("die_on") and faults["die_on"] in path:
                os._exit(1)
            while faults.get("hold") and faults["hold"] in path:
                await asyncio.sleep(0.02)
            if faults.get("refuse") and faults["refuse"] in path and int(faults["times"]) > 0:
                faults["times"] = str(int(faults["times"]) - 1)
                return JSONResponse({"error": "as arranged"}, status_code=int(faults["status"]))
        return await call_next(request)

    async def refuse(_request: Request, error: Exception) -> Response:
        assert isinstance(error, HubError)
        headers = {"X-Error-Message": error.message} | ({"X-Error-Code": error.code} if error.code else {})
        return JSONResponse({"error": error.message, **error.body}, status_code=error.status, headers=headers)

    routes = [
        Route("/_faults", set_faults, methods=["POST"]), Route("/_requests", requests_seen),
        Route("/api/whoami-v2", whoami), Route("/api/repos/create", create, methods=["POST"]),
        Route("/api/repos/delete", delete, methods=["DELETE"]),
        Route("/api/validate-yaml", validate_yaml, methods=["POST"]),
        Route(REPOSITORY + "/settings", settings, methods=["PUT"]),
        Route(REPOSITORY + "/preupload/{revision:path}", preupload, methods=["POST"]),
        Route(REPOSITORY + "/commit/{revision:path}", commit, methods=["POST"]),
        Route(REPOSITORY + "/branch/{revision:path}", branch, methods=["POST"]),
        Route(REPOSITORY + "/tag/{revision:path}", tag, methods=["POST"]),
        Route(REPOSITORY + "/paths-info/{revision}", paths_info, methods=["POST"]),
        Route(REPOSITORY + "/tree/{revision}", tree), Route(REPOSITORY + "/tree/{revision}/{path:path}", tree),
        Route(REPOSITORY + "/refs", refs), Route(REPOSITORY + "/commits/{revision:path}", commits),
        Route(REPOSITORY + "/revision/{revision:path}", info), Route(REPOSITORY, info),
    ]
    for prefix in ("/{kind}", ""):
        base = prefix + "/{owner}/{name}"
        routes += [Route(base + ".git/info/lfs/objects/batch", lfs_batch, methods=["POST"]),
                   Route(base + "/lfs/{oid}", lfs_put, methods=["PUT"]),
                   Route(base + "/lfs/{oid}/verify", lfs_verify, methods=["POST"]),
                   Route(base + "/resolve/{revision}/{path:path}", resolve)]
    return Starlette(routes=routes, middleware=[Middleware(BaseHTTPMiddleware, dispatch=gate)],
                     exception_handlers={HubError: refuse})


def blob_fields(file: Mapping[str, Any]) -> dict[str, Any]:
    lfs = {"lfs": {"sha256": file["sha256"], "size": file["size"], "pointerSize": 134}} if file["large"] else {}
    return {"blobId": file["git"], "size": file["size"], **lfs}


def tree_fields(file: Mapping[str, Any]) -> dict[str, Any]:
    lfs = {"lfs": {"oid": file["sha256"], "size": file["size"], "pointerSize": 134}} if file["large"] else {}
    return {"oid": file["git"], "size": file["size"], **lfs}


def card_problems(data: Any) -> list[str]:
    """What the Hub's own check of a card's metadata is known to refuse."""
    if not isinstance(data, dict):
        return ["metadata must be a mapping"]
    problems = []
    for key in ("license", "pipeline_tag", "library_name", "title", "sdk"):
        if key in data and not isinstance(data[key], str):
            problems.append(f'"{key}" must be a string')
    for key in ("tags", "datasets", "metrics", "models", "task_categories"):
        if key in data and not (isinstance(data[key], list) and all(isinstance(v, str) for v in data[key])):
            problems.append(f'"{key}" must be an array of strings')
    if data.get("license") == "other" and not data.get("license_name"):
        problems.append('"license_name" is required when "license" is "other"')
    if "license_name" in data and not re.fullmatch(r"[a-z0-9.\-]+", str(data["license_name"])):
        problems.append('"license_name" must match /^[a-z0-9-.]+$/')
    for entry in data.get("model-index", []):
        if not {"name", "results"} <= set(entry):
            problems.append('"model-index" entries need a name and results')
        for result in entry.get("results", []):
            if not {"task", "dataset", "metrics"} <= set(result):
                problems.append('"model-index" results need task, dataset and metrics')
            elif not {"type", "name"} <= set(result["dataset"]) or "type" not in result["task"]:
                problems.append('"model-index" results need task.type, dataset.type and dataset.name')
            elif not all({"type", "value"} <= set(m) for m in result["metrics"]):
                problems.append('"model-index" metrics need type and value')
    return problems
