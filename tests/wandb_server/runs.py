"""Projects and runs, as the client sees them."""

import json
from typing import TYPE_CHECKING, Any

from wandb_server.graph import connect, node_id

if TYPE_CHECKING:
    from wandb_server.artifacts import Artifact, Collection, Membership
    from wandb_server.state import State

CREATED = "2026-11-24T00:00:00Z"


def entity_node(name: str) -> dict[str, Any]:
    """An entity of which only the name is known."""
    return {"id": node_id("Entity", name), "name": name, "isTeam": False}


class Project:
    """A project comes into being with the first run or artifact in it."""

    access = "PRIVATE"
    read_only = False
    created_at = CREATED
    tags = ()

    def __init__(self, state: "State", entity: str, name: str) -> None:
        self.state = state
        self.key = (entity, name)
        self.name = name
        self.entity_name = entity
        self.entity = entity_node(entity)
        self.id = self.internal_id = node_id("Project", f"{entity}/{name}")

    def run(self, name: str) -> "Run | None":
        return self.state.runs.get((*self.key, name))

    def bucket(self, name: str, missing_ok: bool = False) -> "Run | None":
        del missing_ok  # what is missing is null
        return self.run(name)

    def runs(
        self, filters: str | None = None, after: str | None = None, first: int | None = None, order: str | None = None
    ) -> dict[str, Any]:
        del filters, order  # not needed by those who ask here
        return connect([run for key, run in self.state.runs.items() if key[:2] == self.key], first, after)

    def run_count(self, filters: str | None = None) -> int:
        count: int = self.runs(filters)["totalCount"]
        return count

    def artifact_collection_membership(self, name: str) -> "Membership | None":
        collection, _, alias = name.partition(":")
        found = self.artifact_collection(collection)
        return found and found.artifact_membership(alias or "latest")

    def artifact(self, name: str) -> "Artifact | None":
        membership = self.artifact_collection_membership(name)
        return membership and membership.artifact

    def artifact_type(self, name: str) -> "ArtifactType | None":
        return ArtifactType(self, name) if name in self._type_names() else None

    def artifact_types(self, after: str | None = None, first: int | None = None) -> dict[str, Any]:
        return connect([ArtifactType(self, name) for name in self._type_names()], first, after)

    def artifact_collection(self, name: str) -> "Collection | None":
        return self.state.collections.get((*self.key, name))

    def artifact_collections(
        self, after: str | None = None, first: int | None = None, **_filters: object
    ) -> dict[str, Any]:
        return connect(self.collections(), first, after)

    def collections(self, type_name: str | None = None) -> "list[Collection]":
        """Those with a version, of one type or of all."""
        mine = [found for key, found in self.state.collections.items() if key[:2] == self.key and found.versions]
        return [found for found in mine if type_name in (None, found.type_name)]

    def _type_names(self) -> list[str]:
        return sorted({found.type_name for key, found in self.state.collections.items() if key[:2] == self.key})


class ArtifactType:
    """All collections of one type in a project."""

    created_at = CREATED

    def __init__(self, project: Project, name: str) -> None:
        self.project = project
        self.name = name
        self.id = node_id("ArtifactType", f"{project.id}/{name}")

    def artifact_collections(
        self, after: str | None = None, first: int | None = None, **_filters: object
    ) -> dict[str, Any]:
        return connect(self.project.collections(self.name), first, after)

    def artifact_collection(self, name: str) -> "Collection | None":
        found = self.project.artifact_collection(name)
        return found if found and found.type_name == self.name else None


class Run:
    """A run with what was logged to it; `used` and `logged` are artifacts in the order in which it told them."""

    graphql_type = "Run"
    created_at = heartbeat_at = CREATED
    project_id = 1
    read_only = stopped = False
    system_metrics = "{}"
    events_tail = "[]"
    log_line_count = file_count = 0

    def __init__(self, project: Project, name: str) -> None:
        self.project = project
        self.name = self.display_name = name
        self.id = node_id("Run", f"{project.id}/{name}")
        self.state = "running"
        self.config = self.summary_metrics = "{}"
        self.group: str | None = None
        self.group_name: str | None = None
        self.job_type: str | None = None
        self.notes: str | None = None
        self.tags: list[str] = []
        self.lines: dict[str, list[str]] = {}
        self.used: list[Artifact] = []
        self.logged: list[Artifact] = []

    @property
    def history_lines(self) -> list[str]:
        """The rows of `wandb.Run.log`, each as JSON."""
        return self.lines.get("wandb-history.jsonl", [])

    @property
    def history_line_count(self) -> int:
        return len(self.history_lines)

    @property
    def events_line_count(self) -> int:
        return len(self.lines.get("wandb-events.jsonl", []))

    @property
    def history_tail(self) -> str:
        return json.dumps(self.history_lines[-1:])

    @property
    def history_keys(self) -> dict[str, Any]:
        steps = [row["_step"] for row in self.rows()]
        return {"lastStep": max(steps, default=-1), "keys": {key: {} for row in self.rows() for key in row}}

    def rows(self) -> list[dict[str, Any]]:
        """What was logged, in the order of its lines."""
        return [json.loads(line) for line in self.history_lines]

    def history(self, min_step: int = 0, max_step: int = 1 << 62, samples: int | None = None) -> list[str]:
        """Rows from `min_step` up to but not including `max_step`."""
        wanted = [line for line in self.history_lines if min_step <= json.loads(line)["_step"] < max_step]
        return wanted[:samples]

    def events(self, samples: int | None = None, **_steps: int) -> list[str]:
        return self.lines.get("wandb-events.jsonl", [])[:samples]

    def sampled_history(self, specs: list[str]) -> list[list[dict[str, Any]]]:
        """One list a spec: the rows that have all its keys."""
        wanted = [json.loads(spec)["keys"] for spec in specs]
        return [
            [{key: row[key] for key in keys} for row in self.rows() if all(key in row for key in keys)]
            for keys in wanted
        ]

    def parquet_history(self, live_keys: list[str]) -> dict[str, Any]:
        return {"parquetUrls": [], "liveData": [{key: row.get(key) for key in live_keys} for row in self.rows()]}

    def wandb_config(self, keys: list[str] | None = None) -> str:
        """What the client keeps there of itself; a run with "t" in it has begun, so that it can be resumed."""
        own = json.loads(self.config).get("_wandb", {}).get("value", {})
        return json.dumps({key: value for key, value in own.items() if keys is None or key in keys})

    def input_artifacts(self, after: str | None = None, first: int | None = None) -> dict[str, Any]:
        return connect(self.used, first, after)

    def output_artifacts(self, after: str | None = None, first: int | None = None) -> dict[str, Any]:
        return connect([artifact for artifact in self.logged if artifact.state == "COMMITTED"], first, after)

    def files(self, **_wanted: object) -> dict[str, Any]:
        return connect([])

    def user(self) -> dict[str, Any]:
        return self.project.state.viewer()

    def take_stream(self, body: dict[str, Any]) -> None:
        """What the client streams while the run lives: lines of named files from a given line on, and its end."""
        for name, chunk in (body.get("files") or {}).items():
            lines = self.lines.setdefault(name, [])
            start = chunk["offset"]
            lines[start : start + len(chunk["content"])] = chunk["content"]
            if name == "wandb-summary.json":
                self.summary_metrics = chunk["content"][-1]
        if body.get("complete"):
            self.state = "finished" if body.get("exitcode") == 0 else "failed"

    def facts(self) -> dict[str, Any]:
        """The run as tests look at it."""
        config = {key: entry.get("value") for key, entry in json.loads(self.config).items() if key != "_wandb"}
        return {
            "name": self.display_name,
            "group": self.group_name,
            "job_type": self.job_type,
            "tags": self.tags,
            "notes": self.notes,
            "state": self.state,
            "config": config,
            "history": self.rows(),
            "summary": json.loads(self.summary_metrics),
            "used": [artifact.qualified_name for artifact in self.used],
            "logged": [artifact.qualified_name for artifact in self.logged],
        }
