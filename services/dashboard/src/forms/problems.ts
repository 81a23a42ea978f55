import type { Problem } from "../api/types";

export interface Placed {
  /** By JSON pointer into the request. */
  fields: Map<string, string>;
  /** What belongs to no field that is shown. */
  rest: Problem | null;
}

/** Each error of an answer at the field it points to; `known` says which pointers have one. */
export function placed(problem: Problem, known: (pointer: string) => boolean): Placed {
  const all = problem.errors?.length ? problem.errors : [problem];
  const fields = new Map<string, string>();
  const left: Problem[] = [];
  for (const error of all) {
    const pointer = nearest(error.where ?? "", known);
    if (pointer === null) left.push(error);
    else fields.set(pointer, [fields.get(pointer), sentence(error)].filter(Boolean).join(" "));
  }
  const [first] = left;
  if (!first) return { fields, rest: null };
  return { fields, rest: left.length === all.length ? problem : { ...first, errors: left } };
}

/** A field, or the one around it that is shown. Of the request as a whole nothing can be shown at a field. */
function nearest(where: string, known: (pointer: string) => boolean): string | null {
  for (let pointer = where; pointer !== "" && pointer !== "/spec"; pointer = pointer.slice(0, pointer.lastIndexOf("/"))) {
    if (known(pointer)) return pointer;
  }
  return null;
}

function sentence({ detail, expected, hint }: Problem): string {
  const said = [detail, expected && `expected ${expected}`].filter(Boolean).join("; ");
  return [`${said.charAt(0).toUpperCase()}${said.slice(1)}.`, hint].filter(Boolean).join(" ");
}
