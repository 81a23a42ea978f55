import type { ReactNode } from "react";

import classes from "./DataTable.module.css";

export interface Column<T> {
  title: string;
  /** In place of the title, where that is more than words. */
  head?: ReactNode;
  /** What the number means, on hover. */
  help?: string;
  align?: "right";
  cell: (row: T) => ReactNode;
}

/** Which of many rows are drawn, and how much room the others would take. */
export interface Part {
  first: number;
  total: number;
  above: number;
  below: number;
  measure: (row: HTMLTableRowElement | null) => void;
}

interface Props<T> {
  label: string;
  columns: Column<T>[];
  rows: readonly T[];
  rowKey: (row: T) => string;
  footer?: ReactNode;
  /** Rows are a part of those that there are. */
  part?: Part;
}

export function DataTable<T>({ label, columns, rows, rowKey, footer, part }: Props<T>) {
  return (
    <>
      <div className={classes.wrap}>
        <table className={classes.table} aria-label={label} aria-rowcount={part && part.total + 1}>
          <thead>
            <tr>
              {columns.map((column) => (
                <th key={column.title} scope="col" data-align={column.align} title={column.help}>
                  {column.head ?? column.title}
                </th>
              ))}
            </tr>
          </thead>
          <tbody>
            <Room height={part?.above} columns={columns.length} />
            {rows.map((row, i) => (
              <tr key={rowKey(row)} ref={part?.measure} data-id={rowKey(row)} data-index={part && part.first + i} aria-rowindex={part && part.first + i + 2}>
                {columns.map((column) => (
                  <td key={column.title} data-align={column.align}>
                    {column.cell(row)}
                  </td>
                ))}
              </tr>
            ))}
            <Room height={part?.below} columns={columns.length} />
          </tbody>
        </table>
      </div>
      {footer && <div className={classes.more}>{footer}</div>}
    </>
  );
}

function Room({ height = 0, columns }: { height?: number; columns: number }) {
  if (height <= 0) return null;
  return (
    <tr aria-hidden="true" className={classes.room}>
      <td colSpan={columns} style={{ height }} />
    </tr>
  );
}
