import { useQuery } from "@tanstack/react-query";

import { sessionQuery } from "../api/queries";
import type { Visibility } from "../api/types";

interface Props {
  of: { project: string; visibility: Visibility };
}

/** Behind a name in a list: of which other project it is, or that one's own is shared. Nothing of all others. */
export function Whose({ of }: Props) {
  const { data: session } = useQuery(sessionQuery);
  if (of.visibility === "project") return null;
  return <span className="dim nowrap"> {of.project === session?.project ? "shared" : `of ${of.project}`}</span>;
}
