import { SegmentedControl } from "@mantine/core";
import { useQuery } from "@tanstack/react-query";
import { useState } from "react";

import { documentQuery } from "../../api/queries";
import type { JobView } from "../../api/types";
import { Card } from "../../components/Card";
import { Copy } from "../../components/Copy";
import { Loading } from "../../components/States";
import { command, LANGUAGES, type Language } from "../../forms/commands";
import { askedOf } from "../../forms/requests";
import { Json } from "./Json";
import classes from "./job.module.css";

/** The spec of a job as it is stored, and as one would ask for the same again. */
export function Ask({ job }: { job: JobView }) {
  const [form, setForm] = useState<"Spec" | Language>("Spec");
  const { data: document } = useQuery({ ...documentQuery, enabled: form !== "Spec" });
  const text = form === "Spec" ? JSON.stringify(job.spec, null, 2) : document && command(form, askedOf(job, document));
  return (
    <Card
      title={form === "Spec" ? "Spec" : `As ${form}`}
      aside={<Copy text={text ?? ""} />}
    >
      <SegmentedControl
        size="xs"
        fullWidth
        mb="xs"
        aria-label="Written as"
        data={["Spec", ...LANGUAGES]}
        value={form}
        onChange={(value) => setForm(LANGUAGES.find((each) => each === value) ?? "Spec")}
      />
      {form === "Spec" ? <Json value={job.spec} /> : text ? <pre className={`${classes.json} mono`}>{text}</pre> : <Loading rows={3} />}
    </Card>
  );
}
