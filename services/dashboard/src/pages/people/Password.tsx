import { useState } from "react";

import { api, unwrap } from "../../api/client";
import type { PasswordChange } from "../../api/types";
import { Card } from "../../components/Card";
import { RecordForm } from "../../forms/RecordForm";
import classes from "./people.module.css";

/** One's own password. */
export function Password() {
  const [changed, setChanged] = useState(false);
  return (
    <Card title="Your password" flush>
      <details className={classes.add}>
        <summary>Change it</summary>
        <RecordForm
          schema="PasswordChange"
          action="Change password"
          send={(body) => unwrap(api.PUT("/api/v1/session/password", { body: body as unknown as PasswordChange }))}
          onDone={() => setChanged(true)}
        />
        <p role="status">{changed && "It is changed, and your other sessions have ended."}</p>
      </details>
    </Card>
  );
}
