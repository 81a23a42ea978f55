"""Attribution graphs."""

from uuid import UUID

from fastapi import APIRouter, Request, Response

from clew_api.auth import ActorDep, requires
from clew_api.lab import LabDep
from clew_api.params import PageOptions
from clew_api.problems import declared
from clew_lab.catalogue import queries, scope
from clew_lab.catalogue.tables import Graph
from clew_spec.api import GraphDetail, GraphView, Page
from clew_spec.errors import NotFound
from clew_spec.graph import GraphDocument
from clew_spec.people import Permission

router = APIRouter(
    prefix="/graphs", tags=["graphs"], dependencies=[requires(Permission.RECORD_READ)], responses=declared(403)
)


@router.get("", responses=declared(401, 422, 503))
def list_graphs(lab: LabDep, actor: ActorDep, options: PageOptions) -> Page[GraphView]:
    with lab.transaction() as session:
        return queries.list_graphs(session, actor, **options)


@router.get("/{graph_id}", responses=declared(401, 404, 422, 503))
def get_graph(lab: LabDep, actor: ActorDep, graph_id: UUID) -> GraphDetail:
    """A graph, and what has been found out with it."""
    with lab.transaction() as session:
        return queries.get_graph(session, actor, graph_id)


@router.get("/{graph_id}/document", response_model=GraphDocument, responses=declared(401, 404, 422, 503))
def get_graph_document(lab: LabDep, actor: ActorDep, graph_id: UUID, request: Request) -> Response:
    """The picture of the graph and its strongest paths, as they are stored."""
    with lab.transaction() as session:
        graph = scope.get(session, actor, Graph, graph_id)
        file = queries.file_of(session, graph, "graph.json")
    if file is None:
        raise NotFound(f"graph {graph_id} has no document")
    headers = {"ETag": f'"{file.sha256}"', "Cache-Control": "private, no-cache"}
    if file.sha256 in request.headers.get("if-none-match", ""):
        return Response(status_code=304, headers=headers)
    return Response(lab.store.read(file.key), media_type="application/json", headers=headers)
