"""`clew users`, `projects`, `members`, `audit`: who works in the lab, and what they did."""

import sys
from collections.abc import Callable
from typing import Annotated, Any

import typer

from clew_client.commands.options import AsJson, Limit
from clew_client.display import number, print_json, print_table, say, since
from clew_client.lab import Lab
from clew_client.people import ProjectChanges
from clew_spec.people import Role
from clew_spec.units import size, size_of

Name = Annotated[str, typer.Argument(metavar="NAME", help="The name to sign in with.")]
Admin = Annotated[bool | None, typer.Option("--admin/--no-admin", help="Of the lab: its people and projects.")]
DisplayName = Annotated[str | None, typer.Option("--display-name", help="As others read it.")]
AskPassword = Annotated[
    bool, typer.Option("--password", help="Ask for a password; a line on stdin is read from there.")
]
Of = Annotated[str | None, typer.Option("--project", help="Another than your key's; for admins of the lab.")]
NO_QUOTA = "none"
MaxInFlight = Annotated[
    str | None, typer.Option(metavar="JOBS", help=f"That workers may have of it at once; {NO_QUOTA} lifts the quota.")
]
MaxStored = Annotated[
    str | None,
    typer.Option(metavar="SIZE", help=f"Of results and uploads, such as 200GiB; {NO_QUOTA} lifts the quota."),
]
ROLES = "viewer, member, maintainer or admin: each may do what those before it may."
RoleOf = Annotated[Role, typer.Argument(metavar="ROLE", help=ROLES)]


def register(app: typer.Typer) -> None:
    for name, help, commands in (
        ("users", "People of the lab, for its admins.", (list_users, create_user, set_user)),
        ("projects", "Projects of the lab.", (list_projects, create_project, set_project)),
        ("members", "Who is in a project, and as what.", (list_members, add_member, set_member, remove_member)),
    ):
        group = typer.Typer(no_args_is_help=True)
        for command in commands:
            group.command(command.__name__.partition("_")[0])(command)
        app.add_typer(group, name=name, help=help)
    app.command()(audit)


def ask_password(wanted: bool, *, twice: bool = True) -> str | None:
    """Typed unseen, or a line of stdin."""
    if not wanted:
        return None
    if not sys.stdin.isatty():
        return sys.stdin.readline().rstrip("\n")
    typed: str = typer.prompt("Password", hide_input=True, err=True, confirmation_prompt=twice)
    return typed


def list_users(limit: Limit = 100, as_json: AsJson = False) -> None:
    """List people, newest first."""
    with Lab() as lab:
        found = list(lab.people.users(limit=limit))
    rows = [
        (
            user.name,
            user.display_name,
            "disabled" if user.disabled else "admin" if user.admin else "",
            ", ".join(f"{one.project} ({one.role})" for one in user.projects),
            "yes" if user.has_password else "no",
        )
        for user in found
    ]
    print_table(found, ["name", "called", "of the lab", "projects", "password"], rows, as_json=as_json)


def create_user(
    name: Name,
    display_name: DisplayName = None,
    admin: Annotated[bool, typer.Option("--admin", help="Of the lab: its people and projects.")] = False,
    password: AskPassword = False,
    as_json: AsJson = False,
) -> None:
    """Add a person to the lab; `clew members add` puts them into a project."""
    given = ask_password(password)
    with Lab() as lab:
        user = lab.people.create_user(name, display_name=display_name, password=given, admin=admin)
    if as_json:
        print_json(user)
    else:
        say(f"{user.name} is a user of the lab" + (" and an admin of it." if user.admin else "."))


def set_user(
    name: Name,
    display_name: DisplayName = None,
    admin: Admin = None,
    disabled: Annotated[bool | None, typer.Option("--disable/--enable", help="Ends their sessions and keys.")] = None,
    password: AskPassword = False,
    as_json: AsJson = False,
) -> None:
    """Change a person: their password, whether they may come in, whether they are an admin of the lab."""
    given = ask_password(password)
    with Lab() as lab:
        user = lab.people.user(name)
        user = lab.people.change_user(
            user.id, display_name=display_name, password=given, admin=admin, disabled=disabled
        )
    if as_json:
        print_json(user)
    else:
        say(f"{user.name} is {'disabled' if user.disabled else 'changed'}.")


def list_projects(as_json: AsJson = False) -> None:
    """List projects: those you reach with this key."""
    with Lab() as lab:
        found = list(lab.people.projects())
    rows = [
        (
            one.name,
            number(one.weight),
            number(one.max_in_flight),
            "" if one.max_stored_bytes is None else size(one.max_stored_bytes),
            str(one.members),
            one.role or "",
            since(one.created_at),
        )
        for one in found
    ]
    titles = ["name", "weight>", "most jobs>", "most stored>", "members>", "you are", "age>"]
    print_table(found, titles, rows, as_json=as_json)


def create_project(
    name: Annotated[str, typer.Argument(metavar="NAME", help="Of the project.")],
    weight: Annotated[float, typer.Option(help="Its share of the workers against that of others.")] = 1.0,
    admin: Annotated[str | None, typer.Option(metavar="USER", help="Who is its first admin.")] = None,
    max_in_flight: MaxInFlight = None,
    max_stored: MaxStored = None,
    as_json: AsJson = False,
) -> None:
    """Make a project."""
    with Lab() as lab:
        project = lab.people.create_project(
            name,
            weight=weight,
            admin=admin,
            max_in_flight=_quota("--max-in-flight", max_in_flight, int),
            max_stored_bytes=_quota("--max-stored", max_stored, size_of),
        )
    if as_json:
        print_json(project)
    else:
        say(f"Project {project.name} is made.")


def set_project(
    name: Annotated[str, typer.Argument(metavar="NAME", help="Of the project.")],
    weight: Annotated[float | None, typer.Option(help="Its share of the workers against that of others.")] = None,
    max_in_flight: MaxInFlight = None,
    max_stored: MaxStored = None,
    as_json: AsJson = False,
) -> None:
    """Change a project's weight and quotas; what is not named stays as it is."""
    changes = ProjectChanges()
    if weight is not None:
        changes["weight"] = weight
    if max_in_flight is not None:
        changes["max_in_flight"] = _quota("--max-in-flight", max_in_flight, int)
    if max_stored is not None:
        changes["max_stored_bytes"] = _quota("--max-stored", max_stored, size_of)
    with Lab() as lab:
        project = lab.people.change_project(lab.people.project(name).id, **changes)
    if as_json:
        print_json(project)
    else:
        jobs = "any number of" if project.max_in_flight is None else f"at most {project.max_in_flight}"
        stored = "any size" if project.max_stored_bytes is None else f"at most {size(project.max_stored_bytes)}"
        say(f"Project {project.name} has weight {number(project.weight)}, {jobs} jobs on workers, {stored} stored.")


def _quota(option: str, text: str | None, read: Callable[[str], int]) -> int | None:
    try:
        return None if text is None or text == NO_QUOTA else read(text)
    except ValueError as error:
        raise typer.BadParameter(str(error), param_hint=option) from None


def list_members(project: Of = None, as_json: AsJson = False) -> None:
    """List a project's members."""
    with Lab() as lab:
        found = lab.people.members(lab.people.project(project).id)
    rows = [
        (one.name, one.display_name, one.role, "disabled" if one.disabled else "", since(one.since)) for one in found
    ]
    print_table(found, ["name", "called", "role", "", "for>"], rows, as_json=as_json)


def add_member(name: Name, role: RoleOf, project: Of = None, as_json: AsJson = False) -> None:
    """Let a person into a project."""
    with Lab() as lab:
        into = lab.people.project(project)
        member = lab.people.add_member(into.id, name, role)
    if as_json:
        print_json(member)
    else:
        say(f"{member.name} is {member.role} of {into.name}.")


def set_member(name: Name, role: RoleOf, project: Of = None, as_json: AsJson = False) -> None:
    """Give a member another role."""
    with Lab() as lab:
        of = lab.people.project(project)
        member = lab.people.change_member(of.id, lab.people.member(of.id, name).user_id, role)
    if as_json:
        print_json(member)
    else:
        say(f"{member.name} is {member.role} of {of.name}.")


def remove_member(name: Name, project: Of = None) -> None:
    """Take a person out of a project: their keys for it end."""
    with Lab() as lab:
        of = lab.people.project(project)
        lab.people.remove_member(of.id, lab.people.member(of.id, name).user_id)
    say(f"{name} is no longer in {of.name}.")


def audit(limit: Limit = 50, as_json: AsJson = False) -> None:
    """Say who did what, newest first: in the project, and to admins of the lab also to the lab itself."""
    with Lab() as lab:
        found = list(lab.people.audit(limit=limit))
    rows = [
        (
            since(one.at),
            one.project or "the lab",
            one.user or "",
            one.key or "",
            one.action,
            one.target,
            _told(one.data),
        )
        for one in found
    ]
    print_table(found, ["ago>", "in", "who", "with key", "did", "to", "namely"], rows, as_json=as_json)


def _told(data: dict[str, Any] | None) -> str:
    told = {name: value for name, value in (data or {}).items() if not name.endswith("digest")}
    return ", ".join(f"{name} {value}" for name, value in told.items())
