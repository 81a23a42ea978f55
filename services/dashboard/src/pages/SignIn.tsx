import { Button, PasswordInput } from "@mantine/core";
import { useMutation, useQueryClient } from "@tanstack/react-query";
import { getRouteApi, useRouter } from "@tanstack/react-router";
import { useState } from "react";

import { api, unwrap } from "../api/client";
import { problemOf } from "../api/problem";
import { sessionQuery } from "../api/queries";
import type { Problem } from "../api/types";
import { Logo } from "../components/icons";
import { ProblemBox } from "../components/States";
import classes from "./SignIn.module.css";

const route = getRouteApi("/sign-in");

/** A refused key in words for whoever types one, not for whoever writes a client. */
function spoken(problem: Problem): Problem {
  if (problem.status !== 401) return problem;
  return { ...problem, request_id: null, hint: "Copy the whole key, with clew_ at its beginning, and try again." };
}

/** Asks for an API key once; from then on the browser holds a cookie that no script can read. */
export default function SignIn() {
  const [key, setKey] = useState("");
  const { next } = route.useSearch();
  const router = useRouter();
  const client = useQueryClient();
  const signIn = useMutation({
    mutationFn: () => unwrap(api.POST("/api/v1/session", { body: { key: key.trim() } })),
    onSuccess: (session) => {
      client.setQueryData(sessionQuery.queryKey, session);
      setKey("");
      router.history.push(next ?? "/");
    },
  });
  return (
    <main className={classes.page}>
      <form
        className={classes.form}
        onSubmit={(event) => {
          event.preventDefault();
          signIn.mutate();
        }}
      >
        <div className={classes.brand}>
          <Logo />
          <h1>Clew</h1>
        </div>
        <PasswordInput
          label="API key"
          description="It begins with clew_ and is printed when the lab first starts."
          placeholder="clew_…"
          value={key}
          onChange={(event) => setKey(event.currentTarget.value)}
          autoFocus
          required
          withAsterisk={false}
          autoComplete="current-password"
          spellCheck={false}
        />
        {signIn.isError && <ProblemBox problem={spoken(problemOf(signIn.error))} />}
        <Button type="submit" loading={signIn.isPending} disabled={key.trim() === ""}>
          Sign in
        </Button>
      </form>
    </main>
  );
}
