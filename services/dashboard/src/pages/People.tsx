import { useQuery } from "@tanstack/react-query";

import { sessionQuery } from "../api/queries";
import type { Permission } from "../api/types";
import { PageTitle } from "../components/Card";
import { Empty, Loading } from "../components/States";
import { Keys } from "./people/Keys";
import { Members } from "./people/Members";
import { Password } from "./people/Password";
import classes from "./people/people.module.css";
import { Projects } from "./people/Projects";
import { Users } from "./people/Users";

/** Who is in the project, whose keys open it, and, to admins of the lab, everyone and every project. */
export default function People() {
  const { data: session } = useQuery(sessionQuery);
  if (!session) return <Loading />;
  const may = (...any: Permission[]) => any.some((permission) => session.permissions.includes(permission));
  return (
    <>
      <PageTitle title={session.project === null ? "People" : `People and keys of ${session.project}`}>
        <span className="dim">
          You are {session.display_name ?? `the key ${session.key_name ?? ""}`}
          {session.role && `, ${session.role}`}
          {session.admin && ", admin of the lab"}
        </span>
      </PageTitle>
      <div className={classes.stack}>
        {session.project_id === null && !session.admin && (
          <Empty title="You are in no project yet">Ask an admin of a project to make you a member.</Empty>
        )}
        {session.project_id !== null && may("key:create", "key:manage") && <Keys session={session} manages={may("key:manage")} />}
        {session.project_id !== null && may("member:read", "project:manage") && (
          <Members project={session.project_id} manages={may("member:manage", "project:manage")} />
        )}
        {session.user !== null && session.key_id === null && <Password />}
        {may("project:manage") && <Projects />}
        {may("user:manage") && <Users />}
      </div>
    </>
  );
}
