import { NativeSelect } from "@mantine/core";
import { useQuery } from "@tanstack/react-query";
import { getRouteApi, Link } from "@tanstack/react-router";

import { requestOf } from "../api/jobs";
import { documentQuery, jobQuery } from "../api/queries";
import type { JobView } from "../api/types";
import { PageTitle } from "../components/Card";
import { Failed, Loading } from "../components/States";
import { specShapes, type ApiDocument } from "../forms/schema";
import type { Values } from "../forms/values";
import { RequestForm } from "./submit/RequestForm";

const route = getRouteApi("/lab/submit");

/** Asks for a job by a form that is made from the API's own schemas. */
export default function Submit() {
  const { from } = route.useSearch();
  const document = useQuery(documentQuery);
  const origin = useQuery({ ...jobQuery(from ?? ""), enabled: from !== undefined });
  const error = document.error ?? origin.error;
  if (error && !(document.data && (from === undefined || origin.data))) return <Failed error={error} retry={() => void document.refetch()} />;
  if (!document.data || (from !== undefined && !origin.data)) return <Loading />;
  return <Chosen document={document.data} origin={from === undefined ? undefined : origin.data} />;
}

function Chosen({ document, origin }: { document: ApiDocument; origin: JobView | undefined }) {
  const { kind = origin?.kind ?? "train", fill } = route.useSearch();
  const navigate = route.useNavigate();
  const shapes = specShapes(document);
  const shape = shapes[kind];
  if (!shape) return null;
  const given: Values = origin && origin.kind === kind ? requestOf(origin) : { spec: { ...fill, kind } };
  return (
    <>
      <PageTitle title={origin ? `A job like ${origin.name}` : "New job"}>
        <NativeSelect
          size="xs"
          aria-label="Kind of job"
          data={Object.keys(shapes)}
          value={kind}
          onChange={(event) => void navigate({ search: { kind: event.currentTarget.value }, replace: true })}
        />
        {origin && (
          <Link to="/jobs/$id" params={{ id: origin.id }} className="dim">
            the one it is like
          </Link>
        )}
      </PageTitle>
      <RequestForm key={`${kind} ${origin?.id ?? ""}`} document={document} shape={shape} given={given} />
    </>
  );
}
