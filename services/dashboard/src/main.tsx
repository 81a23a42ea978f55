import "./mantine";
import "./app.css";

import { MantineProvider } from "@mantine/core";
import { QueryCache, QueryClient, QueryClientProvider } from "@tanstack/react-query";
import { RouterProvider } from "@tanstack/react-router";
import { StrictMode } from "react";
import { createRoot } from "react-dom/client";

import { ApiError } from "./api/problem";
import { sessionQuery } from "./api/queries";
import { makeRouter } from "./router";
import { theme } from "./theme";
import { outbox } from "./uploads/outbox";

const client = new QueryClient({
  queryCache: new QueryCache({
    onError: (error) => {
      // A session that ended anywhere ends here: the guard of the routes asks for the key again.
      // Without one, the guard is asking already.
      if (!(error instanceof ApiError) || error.status !== 401 || !client.getQueryData(sessionQuery.queryKey)) return;
      client.removeQueries({ queryKey: ["session"] });
      void router.invalidate();
    },
  }),
  defaultOptions: {
    queries: {
      staleTime: 5_000,
      // What the lab refused stays refused; what did not answer may yet.
      retry: (failures, error) => failures < 2 && (!(error instanceof ApiError) || error.status === 0 || error.status >= 500),
    },
  },
});
const router = makeRouter(client);
// Every page asks for it: on its way while React begins. Who needs it meets the error.
client.query(sessionQuery).catch(() => undefined);
// The browser asks before it closes a tab from which something is on its way.
window.addEventListener("beforeunload", (event) => {
  if (outbox.busy) event.preventDefault();
});

const container = document.getElementById("root");
if (!container) throw new Error("index.html has no #root");
createRoot(container).render(
  <StrictMode>
    <MantineProvider theme={theme} defaultColorScheme="auto">
      <QueryClientProvider client={client}>
        <RouterProvider router={router} />
      </QueryClientProvider>
    </MantineProvider>
  </StrictMode>,
);
