import type { ReactNode } from "react";

import classes from "./DataTable.module.css";

export interface Column<T> {
  title: string;
  /** What the number means, on hover. */
  help?: string;
  align?: "right";
  cell: (row: T) => ReactNode;
}

interface Props<T> {
  label: string;
  columns: Column<T>[];
  rows: T[];
  rowKey: (row: T) => string;
  footer?: ReactNode;
}

export function DataTable<T>({ label, columns, rows, rowKey, footer }: Props<T>) {
  return (
    <>
      <div className={classes.wrap}>
        <table className={classes.table} aria-label={label}>
          <thead>
            <tr>
              {columns.map((column) => (
                <th key={column.title} scope="col" data-align={column.align} title={column.help}>
                  {column.title}
                </th>
              ))}
            </tr>
          </thead>
          <tbody>
            {rows.map((row) => (
              <tr key={rowKey(row)} data-id={rowKey(row)}>
                {columns.map((column) => (
                  <td key={column.title} data-align={column.align}>
                    {column.cell(row)}
                  </td>
                ))}
              </tr>
            ))}
          </tbody>
        </table>
      </div>
      {footer && <div className={classes.more}>{footer}</div>}
    </>
  );
}
