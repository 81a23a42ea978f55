import { useQuery } from "@tanstack/react-query";
import { Link } from "@tanstack/react-router";
import type { ReactNode } from "react";

import { jobQuery, recordQueries } from "../../api/queries";
import type { CoderView } from "../../api/types";
import { Card, Facts } from "../../components/Card";
import { Digest } from "../../components/Digest";
import { count, NONE } from "../../format";

/** What it was made from, by which job and which version of the code. */
export function Provenance({ coder }: { coder: CoderView }) {
  const { lineage, dataset_id } = coder;
  const model = useQuery(recordQueries.model(coder.model_id));
  const dataset = useQuery({ ...recordQueries.dataset(dataset_id ?? ""), enabled: dataset_id !== null });
  const job = useQuery(jobQuery(coder.job_id));
  const maker = (record: { job_id: string; name: string } | undefined): ReactNode =>
    record ? (
      <Link to="/jobs/$id" params={{ id: record.job_id }}>
        {record.name}
      </Link>
    ) : (
      NONE
    );
  const rows: [string, ReactNode][] = [
    ["made by", maker(job.data && { job_id: job.data.id, name: `${job.data.kind} ${job.data.name}` })],
    ["model", maker(model.data)],
    ["dataset", dataset_id === null ? "not in the catalogue" : maker(dataset.data)],
    ["code", <span key="code" className="mono">{lineage.code_version}</span>],
    ["seed", lineage.seed ?? NONE],
    ["tokens", lineage.tokens == null ? NONE : count(lineage.tokens)],
    ["digest", <Digest key="digest" value={coder.digest} />],
    ["model digest", <Digest key="model" value={coder.config.model_digest} />],
    ["tokenizer digest", <Digest key="tokenizer" value={coder.config.tokenizer_digest} />],
    ["project", `${coder.project}, seen by the ${coder.visibility}`],
    ["id", <span key="id" className="mono">{coder.id}</span>],
  ];
  return (
    <Card title="Provenance">
      <Facts rows={rows} />
    </Card>
  );
}
