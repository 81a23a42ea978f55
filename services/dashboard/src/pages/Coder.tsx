import { useQuery } from "@tanstack/react-query";
import { getRouteApi, Link } from "@tanstack/react-router";

import { coderQuery } from "../api/queries";
import type { CoderView } from "../api/types";
import { Card, Facts, PageTitle } from "../components/Card";
import { FrequencyChart } from "../components/FrequencyChart";
import { Empty, Failed, Loading } from "../components/States";
import { Ago } from "../components/Time";
import { count, decimal, NONE, percent } from "../format";
import { Export } from "./coder/Export";
import { Provenance } from "./coder/Provenance";
import classes from "./job/job.module.css";

const route = getRouteApi("/lab/coders/$id");

/** One coder: how good it is, how often its features are active, where it came from, and how to take it elsewhere. */
export default function Coder() {
  const { id } = route.useParams();
  const query = useQuery(coderQuery(id));
  if (query.isPending) return <Loading />;
  if (!query.data) return <Failed error={query.error} retry={() => void query.refetch()} />;
  const coder = query.data;
  return (
    <>
      <PageTitle title={`${coder.name}, layer ${coder.layer}`}>
        <span className="dim">{coder.config.kind}</span>
        <span className="dim">
          created <Ago at={coder.created_at} />
        </span>
        <Link to="/coders" search={{ job: coder.job_id }} className="dim">
          the whole set
        </Link>
      </PageTitle>
      <div className={classes.grid}>
        <div className={classes.column}>
          <Metrics coder={coder} />
          {coder.metrics?.frequencies && (
            <Card title="Feature frequencies" aside={`${count(coder.metrics.frequencies.never)} never active`}>
              <FrequencyChart of={coder.metrics.frequencies} />
            </Card>
          )}
        </div>
        <div className={classes.column}>
          <Config coder={coder} />
          <Provenance coder={coder} />
          <Export coder={coder} />
        </div>
      </div>
    </>
  );
}

function Metrics({ coder }: { coder: CoderView }) {
  const { metrics } = coder;
  if (!metrics) {
    return (
      <Card title="Metrics">
        <Empty title="Not evaluated yet">
          An evaluation measures it on held-out tokens.{" "}
          <Link to="/submit" search={{ kind: "evaluate", fill: { coders: coder.id } }}>
            Evaluate it
          </Link>
        </Empty>
      </Card>
    );
  }
  const between = (name: string, value: number | null | undefined) => {
    const ends = metrics.intervals?.[name];
    return (
      <>
        {decimal(value)} {ends && <span className="dim">{`${decimal(ends.low)} to ${decimal(ends.high)}`}</span>}
      </>
    );
  };
  return (
    <Card title="Metrics" aside={`of the newest evaluation, on ${count(metrics.tokens)} held-out tokens; 95 % intervals`}>
      <Facts
        rows={[
          ["FVU", between("fvu", metrics.fvu)],
          ["L0", between("l0", metrics.l0)],
          ["L1", between("l1", metrics.l1)],
          ["CE original", between("ce_original", metrics.ce_original)],
          ["CE spliced", between("ce_spliced", metrics.ce_spliced)],
          ["CE zeroed", between("ce_zero", metrics.ce_zero)],
          ["CE mean", between("ce_mean", metrics.ce_mean)],
          ["loss recovered, of zero", percent(metrics.loss_recovered_zero)],
          ["loss recovered, of mean", percent(metrics.loss_recovered_mean)],
          ["KL", between("kl", metrics.kl)],
          ["agreement", percent(metrics.agreement)],
          ["dead", `${count(metrics.dead)}, ${percent(metrics.dead_fraction)}`],
          ["dense", metrics.dense == null ? NONE : count(metrics.dense)],
          ["live", metrics.live == null ? NONE : count(metrics.live)],
        ]}
      />
    </Card>
  );
}

function Config({ coder: { config, fvu_first, fvu_last } }: { coder: CoderView }) {
  const { kind, ...settings } = config.activation;
  return (
    <Card title="Coder">
      <Facts
        rows={[
          ["features", count(config.n_features)],
          ["activation", [kind, ...Object.entries(settings).map(([name, value]) => `${name} = ${String(value)}`)].join(", ")],
          ["reads", `${config.hook_in ?? NONE}, ${count(config.d_in)} wide`],
          ["writes", `${config.hook_out ?? NONE}, ${count(config.d_out)} wide`],
          ["BOS", <span key="bos" className="mono">{config.bos}</span>],
          ["held-out FVU", `${decimal(fvu_first)} → ${decimal(fvu_last)}`],
        ]}
      />
    </Card>
  );
}
