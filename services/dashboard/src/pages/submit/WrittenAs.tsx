import { SegmentedControl } from "@mantine/core";
import { useState } from "react";

import { Card } from "../../components/Card";
import { Copy } from "../../components/Copy";
import { command, LANGUAGES, type Language } from "../../forms/commands";
import { said } from "../../forms/requests";
import type { ApiDocument } from "../../forms/schema";
import type { Values } from "../../forms/values";
import classes from "../job/job.module.css";

/** The request of the form as one would write it elsewhere. */
export function WrittenAs({ document, request }: { document: ApiDocument; request: Values }) {
  const [language, setLanguage] = useState<Language>("CLI");
  const text = command(language, said(request, document));
  return (
    <Card
      title={`As ${language}`}
      aside={<Copy text={text} />}
    >
      <SegmentedControl
        size="xs"
        fullWidth
        mb="xs"
        aria-label="Written as"
        data={[...LANGUAGES]}
        value={language}
        onChange={(value) => setLanguage(LANGUAGES.find((each) => each === value) ?? "CLI")}
      />
      <pre className={`${classes.json} mono`}>{text}</pre>
    </Card>
  );
}
