import { ActionIcon, Button, Menu, useComputedColorScheme, useMantineColorScheme } from "@mantine/core";
import { useMutation, useQuery, useQueryClient } from "@tanstack/react-query";
import { Link, Outlet, useNavigate } from "@tanstack/react-router";
import { useSyncExternalStore } from "react";

import { api, unwrap } from "../api/client";
import { sessionQuery } from "../api/queries";
import { percent } from "../format";
import { LiveProvider, useLiveStatus } from "../live/LiveProvider";
import { outbox } from "../uploads/outbox";
import { Logo, Moon, Sun } from "./icons";
import { LabStrip } from "./LabStrip";
import classes from "./Shell.module.css";

const PAGES = [
  ["/", "Jobs"],
  ["/models", "Models"],
  ["/datasets", "Datasets"],
  ["/uploads", "Uploads"],
  ["/coders", "Coders"],
  ["/graphs", "Graphs"],
  ["/compare", "Compare"],
  ["/lab", "Lab"],
  ["/people", "People"],
] as const;

/** The frame around every page behind the sign-in. */
export function Shell() {
  return (
    <LiveProvider>
      <div className={classes.shell}>
        <a href="#main" className={classes.skip}>
          Skip to the page
        </a>
        <header className={classes.header}>
          <Link to="/" className={classes.brand} aria-label="Clew: jobs">
            <Logo />
            Clew
          </Link>
          <nav className={classes.nav} aria-label="Pages">
            {PAGES.map(([to, title]) => (
              <Link key={to} to={to} activeOptions={{ exact: to === "/", includeSearch: false }}>
                {title}
              </Link>
            ))}
          </nav>
          <div className={classes.end}>
            <Reconnecting />
            <Uploading />
            <LabStrip />
            <SchemeToggle />
            <Account />
          </div>
        </header>
        {/* It scrolls, and not every page has something in it that the keyboard reaches. */}
        <main id="main" className={classes.main} tabIndex={0}>
          <Outlet />
        </main>
      </div>
    </LiveProvider>
  );
}

function Reconnecting() {
  const status = useLiveStatus();
  return (
    <span role="status">
      {status === "reconnecting" && (
        <span className={classes.reconnecting} title="The live stream broke off; what you see may be old until it is back.">
          reconnecting
        </span>
      )}
    </span>
  );
}

/** What is on its way from this tab, on every page. */
function Uploading() {
  const list = useSyncExternalStore(outbox.subscribe, outbox.list);
  const moving = list.filter(({ state }) => state === "hash" || state === "send");
  if (moving.length === 0) return null;
  const size = moving.reduce((sum, each) => sum + each.size, 0);
  const sent = moving.reduce((sum, each) => sum + (each.state === "send" ? each.done : 0), 0);
  return (
    <Link to="/uploads" className="dim">
      uploading {percent(size > 0 ? sent / size : 0, 0)}
    </Link>
  );
}

function SchemeToggle() {
  const { setColorScheme } = useMantineColorScheme();
  const dark = useComputedColorScheme("light") === "dark";
  return (
    <ActionIcon
      variant="subtle"
      color="gray"
      aria-label={dark ? "Use light colours" : "Use dark colours"}
      onClick={() => setColorScheme(dark ? "light" : "dark")}
    >
      {dark ? <Sun /> : <Moon />}
    </ActionIcon>
  );
}

function Account() {
  const client = useQueryClient();
  const navigate = useNavigate();
  const { data: session } = useQuery(sessionQuery);
  const signOut = useMutation({
    mutationFn: () => unwrap(api.DELETE("/api/v1/session")),
    onSuccess: async () => {
      await navigate({ to: "/sign-in" });
      client.clear();
    },
  });
  const act = useMutation({
    mutationFn: (project: string) => unwrap(api.PATCH("/api/v1/session", { body: { project } })),
    // All that is on the page, and the stream, is of the project before.
    onSuccess: () => window.location.assign("/"),
  });
  if (!session) return null;
  const others = session.projects.filter(({ project }) => project !== session.project);
  return (
    <Menu position="bottom-end" width={220} withInitialFocusPlaceholder={false} withinPortal={false}>
      <Menu.Target>
        <Button variant="default" size="compact-sm" fw={500}>
          {session.project ?? "no project"}
        </Button>
      </Menu.Target>
      <Menu.Dropdown>
        <Menu.Label>
          {session.display_name ?? `key ${session.key_name ?? ""}`}
          {session.role && `, ${session.role}`}
          {session.expires_at && <>, session until {new Date(session.expires_at).toLocaleString()}</>}
        </Menu.Label>
        {others.map(({ project, role }) => (
          <Menu.Item key={project} onClick={() => act.mutate(project)}>
            Act in {project} <span className="dim">{role}</span>
          </Menu.Item>
        ))}
        <Menu.Item renderRoot={(p) => <Link to="/people" {...p} />}>People and keys</Menu.Item>
        <Menu.Item onClick={() => signOut.mutate()}>Sign out</Menu.Item>
      </Menu.Dropdown>
    </Menu>
  );
}
