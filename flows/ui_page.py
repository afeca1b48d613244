"""A Markdown page of a flow run in Prefect's UI, whose text is replaced: one row in the server's database, not many."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING
from uuid import UUID

from prefect.client.schemas.actions import ArtifactCreate
from prefect.client.schemas.filters import ArtifactFilter, ArtifactFilterFlowRunId, ArtifactFilterKey
from prefect.context import FlowRunContext
from prefect.exceptions import PrefectHTTPStatusError

from nemotron.tasks.hasty_client import ask_again, hasty_client

if TYPE_CHECKING:
    from prefect.client.orchestration import SyncPrefectClient

MISSING = 404


@dataclass(kw_only=True)
class UiPage:
    """The page `key` of a flow run; the same one after a retry of the run."""

    key: str
    flow_run: UUID
    _id: UUID | None = None

    @classmethod
    def of_this_run(cls, key: str) -> UiPage | None:
        """The page of the flow run that goes on in this context, None where there is none."""
        context = FlowRunContext.get()
        run = context.flow_run if context else None
        return cls(key=key, flow_run=run.id) if run else None

    def put(self, markdown: str, *, description: str) -> None:
        """Have it say that; raises whatever the client raises. `description` is what lists of pages show."""
        ask_again(lambda: self._put(markdown, description))

    def _put(self, markdown: str, description: str) -> None:
        with hasty_client() as client:
            self._id = self._id or self._find(client)
            if self._id is None:
                self._id = self._create(client, markdown, description)
            else:
                self._replace(client, self._id, markdown, description)

    def _find(self, client: SyncPrefectClient) -> UUID | None:
        chosen = ArtifactFilter(
            key=ArtifactFilterKey(any_=[self.key]), flow_run_id=ArtifactFilterFlowRunId(any_=[self.flow_run])
        )
        found = client.read_artifacts(artifact_filter=chosen, limit=1)
        return found[0].id if found else None

    # Not create_artifact and update_artifact: they also send events, the latter with the whole text (Prefect 3.8.8).
    def _create(self, client: SyncPrefectClient, markdown: str, description: str) -> UUID:
        new = ArtifactCreate(
            key=self.key, type="markdown", flow_run_id=self.flow_run, data=markdown, description=description
        )
        answer = client.request("POST", "/artifacts/", json=new.model_dump(mode="json", exclude_unset=True))
        return UUID(answer.json()["id"])

    def _replace(self, client: SyncPrefectClient, page: UUID, markdown: str, description: str) -> None:
        change = {"data": markdown, "description": description}
        try:
            client.request("PATCH", "/artifacts/{id}", json=change, path_params={"id": page})
        except PrefectHTTPStatusError as error:
            if error.response.status_code == MISSING:
                self._id = None  # somebody removed it; the next one, soon, is new
            raise
