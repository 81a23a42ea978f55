import { Button } from "@mantine/core";
import type { InfiniteData, UseInfiniteQueryResult } from "@tanstack/react-query";
import { useVirtualizer } from "@tanstack/react-virtual";
import { useEffect, useMemo, useRef, useState } from "react";

import type { Page } from "../api/types";
import { DataTable, type Column } from "./DataTable";

interface Props<T> {
  label: string;
  query: UseInfiniteQueryResult<InfiniteData<Page<T>>>;
  columns: Column<T>[];
}

const ROW_HEIGHT = 45;
const OVERSCAN = 8;
/** So many rows before the end of what is loaded, the next page is asked for. */
const AHEAD = 10;

/** A table of any length that draws the rows on the screen, and loads further pages as one comes near their end. */
export function LongTable<T extends { id: string }>({ label, query, columns }: Props<T>) {
  const rows = useMemo(() => query.data?.pages.flatMap((page) => page.items) ?? [], [query.data]);
  const box = useRef<HTMLDivElement>(null);
  const [margin, setMargin] = useState(0);
  useEffect(() => {
    const main = scroller();
    if (box.current && main) setMargin(box.current.getBoundingClientRect().top - main.getBoundingClientRect().top + main.scrollTop);
  }, []);
  // eslint-disable-next-line react-hooks/incompatible-library -- nothing here is memoized by a compiler
  const virtual = useVirtualizer({
    count: rows.length,
    getScrollElement: scroller,
    estimateSize: () => ROW_HEIGHT,
    getItemKey: (i) => rows[i]?.id ?? i,
    overscan: OVERSCAN,
    scrollMargin: margin,
    initialRect: { width: 1200, height: 900 },
  });
  const items = virtual.getVirtualItems();
  const [first, last] = [items[0], items.at(-1)];
  const { hasNextPage, isFetchingNextPage, isFetchNextPageError, fetchNextPage } = query;
  const near = (last?.index ?? 0) >= rows.length - AHEAD;
  useEffect(() => {
    if (near && hasNextPage && !isFetchingNextPage && !isFetchNextPageError) void fetchNextPage();
  }, [near, hasNextPage, isFetchingNextPage, isFetchNextPageError, fetchNextPage]);
  return (
    <div ref={box}>
      <DataTable
        label={label}
        columns={columns}
        rows={first && last ? rows.slice(first.index, last.index + 1) : []}
        rowKey={(row) => row.id}
        part={{
          first: first?.index ?? 0,
          total: rows.length,
          above: (first?.start ?? margin) - margin,
          below: virtual.getTotalSize() - ((last?.end ?? margin) - margin),
          measure: virtual.measureElement,
        }}
        footer={
          hasNextPage && (
            <Button variant="subtle" size="xs" loading={isFetchingNextPage} onClick={() => void fetchNextPage()}>
              Load more
            </Button>
          )
        }
      />
    </div>
  );
}

/** What scrolls a page. */
function scroller(): HTMLElement | null {
  return document.getElementById("main");
}
