import { Button, PasswordInput, TextInput } from "@mantine/core";
import { useLocalStorage } from "@mantine/hooks";
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
function spoken(problem: Problem, byKey: boolean): Problem {
  if (problem.status !== 401) return problem;
  const hint = byKey ? "Copy the whole key, with clew_ at its beginning, and try again." : problem.hint;
  return { ...problem, request_id: null, hint };
}

/** Asks once for a key, or a name and its password; from then on the browser holds a cookie that no script can read. */
export default function SignIn() {
  const [way, setWay] = useLocalStorage<"key" | "password">({ key: "clew.sign-in", defaultValue: "key", getInitialValueInEffect: false });
  const [key, setKey] = useState("");
  const [name, setName] = useState("");
  const [password, setPassword] = useState("");
  const { next } = route.useSearch();
  const router = useRouter();
  const client = useQueryClient();
  const byKey = way === "key";
  const signIn = useMutation({
    mutationFn: () => unwrap(api.POST("/api/v1/session", { body: byKey ? { key: key.trim() } : { name: name.trim(), password } })),
    onSuccess: (session) => {
      client.setQueryData(sessionQuery.queryKey, session);
      setKey("");
      setPassword("");
      router.history.push(next ?? "/");
    },
  });
  const ready = byKey ? key.trim() !== "" : name.trim() !== "" && password !== "";
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
        {byKey ? (
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
        ) : (
          <>
            <TextInput
              label="Name"
              value={name}
              onChange={(event) => setName(event.currentTarget.value)}
              autoFocus
              required
              withAsterisk={false}
              autoComplete="username"
              spellCheck={false}
            />
            <PasswordInput
              label="Password"
              value={password}
              onChange={(event) => setPassword(event.currentTarget.value)}
              required
              withAsterisk={false}
              autoComplete="current-password"
            />
          </>
        )}
        {signIn.isError && <ProblemBox problem={spoken(problemOf(signIn.error), byKey)} />}
        <Button type="submit" loading={signIn.isPending} disabled={!ready}>
          Sign in
        </Button>
        <Button
          variant="subtle"
          size="compact-sm"
          onClick={() => {
            signIn.reset();
            setWay(byKey ? "password" : "key");
          }}
        >
          {byKey ? "Use a name and a password" : "Use an API key"}
        </Button>
      </form>
    </main>
  );
}
