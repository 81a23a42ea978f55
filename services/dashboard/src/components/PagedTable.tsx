import { Button } from "@mantine/core";
import type { UseInfiniteQueryResult, InfiniteData } from "@tanstack/react-query";
import type { ReactNode } from "react";

import type { Page } from "../api/types";
import { DataTable, type Column } from "./DataTable";
import { Failed, Loading } from "./States";

interface Props<T> {
  label: string;
  query: UseInfiniteQueryResult<InfiniteData<Page<T>>>;
  columns: Column<T>[];
  empty: ReactNode;
  /** Another order than the list's own. */
  arrange?: (rows: T[]) => T[];
}

/** A table over a cursor-paged list: loading, failing and being empty included. */
export function PagedTable<T extends { id: string }>({ label, query, columns, empty, arrange }: Props<T>) {
  if (query.isPending) return <Loading />;
  // What was fetched before stays on the screen while the lab is away.
  if (!query.data) return <Failed error={query.error} retry={() => void query.refetch()} />;
  const rows = query.data.pages.flatMap((page) => page.items);
  if (rows.length === 0) return empty;
  return (
    <DataTable
      label={label}
      columns={columns}
      rows={arrange ? arrange(rows) : rows}
      rowKey={(row) => row.id}
      footer={
        query.hasNextPage && (
          <Button variant="subtle" size="xs" loading={query.isFetchingNextPage} onClick={() => void query.fetchNextPage()}>
            Load more
          </Button>
        )
      }
    />
  );
}
