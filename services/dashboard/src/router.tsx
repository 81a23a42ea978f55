import { QueryClient } from "@tanstack/react-query";
import { createRootRouteWithContext, createRoute, createRouter, lazyRouteComponent, Link, redirect } from "@tanstack/react-router";

import { ApiError } from "./api/problem";
import { sessionQuery } from "./api/queries";
import { JOB_KINDS, JOB_STATES } from "./api/types";
import { chartSearch, type ChartSearch } from "./charts/view";
import { PageTitle } from "./components/Card";
import { Shell } from "./components/Shell";
import { Failed, Loading } from "./components/States";
import { isValues } from "./forms/values";
import { graphSearch } from "./graph/search";
import Jobs from "./pages/Jobs";

interface Context {
  client: QueryClient;
}

interface CompareSearch extends ChartSearch {
  /** Ids of jobs, with commas. */
  runs?: string;
  /** The layer whose curves are laid over each other; their mean if not given. */
  layer?: number;
  pareto?: string;
}

const root = createRootRouteWithContext<Context>()();

// What a `validateSearch` leaves out stays as it stood in the URL, so each names every key it rules on.

const signIn = createRoute({
  getParentRoute: () => root,
  path: "/sign-in",
  validateSearch: (search: Record<string, unknown>): { next?: string } => ({
    // Only a path of this site: never a redirect to elsewhere.
    next: typeof search.next === "string" && /^\/(?![/\\])/.test(search.next) ? search.next : undefined,
  }),
  component: lazyRouteComponent(() => import("./pages/SignIn")),
});

const lab = createRoute({
  getParentRoute: () => root,
  id: "lab",
  beforeLoad: async ({ context, location }) => {
    try {
      await context.client.query({ ...sessionQuery, staleTime: "static" });
    } catch (error) {
      if (error instanceof ApiError && error.status === 401) {
        throw redirect({ to: "/sign-in", search: location.href === "/" ? {} : { next: location.href } });
      }
      throw error;
    }
  },
  component: Shell,
});

/** A filter in the URL: `state=running,failed`; what is not a known value is dropped. */
function list(value: unknown, known: readonly string[]): string | undefined {
  const wanted = typeof value === "string" ? value.split(",") : [];
  return known.filter((item) => wanted.includes(item)).join(",") || undefined;
}

const jobs = createRoute({
  getParentRoute: () => lab,
  path: "/",
  validateSearch: (search: Record<string, unknown>): { state?: string; kind?: string; user?: string; batch?: string } => ({
    state: list(search.state, JOB_STATES),
    kind: list(search.kind, JOB_KINDS),
    user: typeof search.user === "string" ? search.user : undefined,
    batch: typeof search.batch === "string" ? search.batch : undefined,
  }),
  component: Jobs, // the front page: with what every page loads
});

const job = createRoute({
  getParentRoute: () => lab,
  path: "/jobs/$id",
  validateSearch: chartSearch,
  component: lazyRouteComponent(() => import("./pages/Job")),
});

/** A form to ask for a job: of a kind, with the values of a job that was asked for before, or with some values. */
const submit = createRoute({
  getParentRoute: () => lab,
  path: "/submit",
  validateSearch: (search: Record<string, unknown>): { kind?: string; from?: string; fill?: Record<string, unknown> } => ({
    kind: list(search.kind, JOB_KINDS)?.split(",")[0],
    from: typeof search.from === "string" ? search.from : undefined,
    fill: isValues(search.fill) ? search.fill : undefined,
  }),
  component: lazyRouteComponent(() => import("./pages/Submit")),
});

const compare = createRoute({
  getParentRoute: () => lab,
  path: "/compare",
  validateSearch: (search: Record<string, unknown>): CompareSearch => ({
    ...chartSearch(search),
    runs: typeof search.runs === "string" ? search.runs : undefined,
    layer: typeof search.layer === "number" ? search.layer : undefined,
    pareto: typeof search.pareto === "string" ? search.pareto : undefined,
  }),
  component: lazyRouteComponent(() => import("./pages/Compare")),
});

const people = createRoute({
  getParentRoute: () => lab,
  path: "/people",
  component: lazyRouteComponent(() => import("./pages/People")),
});

const overview = createRoute({
  getParentRoute: () => lab,
  path: "/lab",
  component: lazyRouteComponent(() => import("./pages/Lab")),
});

const models = createRoute({
  getParentRoute: () => lab,
  path: "/models",
  component: lazyRouteComponent(() => import("./pages/Models")),
});

const datasets = createRoute({
  getParentRoute: () => lab,
  path: "/datasets",
  component: lazyRouteComponent(() => import("./pages/Datasets")),
});

const uploads = createRoute({
  getParentRoute: () => lab,
  path: "/uploads",
  component: lazyRouteComponent(() => import("./pages/Uploads")),
});

const coders = createRoute({
  getParentRoute: () => lab,
  path: "/coders",
  validateSearch: (search: Record<string, unknown>): { job?: string } => ({
    job: typeof search.job === "string" ? search.job : undefined,
  }),
  component: lazyRouteComponent(() => import("./pages/Coders")),
});

const coder = createRoute({
  getParentRoute: () => lab,
  path: "/coders/$id",
  component: lazyRouteComponent(() => import("./pages/Coder")),
});

const graphs = createRoute({
  getParentRoute: () => lab,
  path: "/graphs",
  component: lazyRouteComponent(() => import("./pages/Graphs")),
});

const graph = createRoute({
  getParentRoute: () => lab,
  path: "/graphs/$id",
  validateSearch: graphSearch,
  component: lazyRouteComponent(() => import("./pages/Graph")),
});

/** Any other address: in the frame, so that one finds on. */
const nowhere = createRoute({ getParentRoute: () => lab, path: "$", component: NotFound });

function NotFound() {
  return (
    <>
      <PageTitle title="No such page" />
      The address may be mistyped. <Link to="/">Go to the jobs</Link>
    </>
  );
}

export function makeRouter(client: QueryClient) {
  return createRouter({
    routeTree: root.addChildren([signIn, lab.addChildren([jobs, job, submit, compare, models, datasets, uploads, coders, coder, graphs, graph, people, overview, nowhere])]),
    context: { client },
    defaultPreload: "intent",
    defaultPendingComponent: () => <Loading />,
    defaultErrorComponent: ({ error, reset }) => <Failed error={error} retry={reset} />,
    defaultNotFoundComponent: NotFound,
  });
}

declare module "@tanstack/react-router" {
  interface Register {
    router: ReturnType<typeof makeRouter>;
  }
  interface HistoryState {
    /** The job of the page was made before, and is what a request for the same found. */
    found?: boolean;
  }
}
