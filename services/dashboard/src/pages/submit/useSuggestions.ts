import { useQuery } from "@tanstack/react-query";
import { useCallback, useMemo } from "react";

import { api, unwrap } from "../../api/client";

/** The newest names of the catalogue, for the fields that take one. */
export function useSuggestions(): (field: string) => readonly string[] {
  const { data } = useQuery({
    queryKey: ["records", "names"],
    queryFn: async ({ signal }) => {
      const query = { limit: 200 };
      const [models, datasets, coders, graphs, uploads] = await Promise.all([
        unwrap(api.GET("/api/v1/models", { params: { query }, signal })),
        unwrap(api.GET("/api/v1/datasets", { params: { query }, signal })),
        unwrap(api.GET("/api/v1/coders", { params: { query }, signal })),
        unwrap(api.GET("/api/v1/graphs", { params: { query }, signal })),
        unwrap(api.GET("/api/v1/uploads", { params: { query }, signal })),
      ]);
      const path = uploads.items.filter(({ state }) => state === "complete").map(({ name }) => ({ name: `upload:${name}` }));
      return { model: models.items, dataset: datasets.items, coders: coders.items, graph: graphs.items, path };
    },
  });
  const names = useMemo(
    () => new Map(Object.entries(data ?? {}).map(([field, records]) => [field, [...new Set(records.map((record) => record.name))]])),
    [data],
  );
  return useCallback((field) => names.get(field) ?? [], [names]);
}
