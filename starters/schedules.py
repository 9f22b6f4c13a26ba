"""Commands about schedules: what the file says becomes Temporal's Schedules, and back.

Only schedules whose id begins with ``coafi:`` are ours. The definition of each is kept in the memo of what it starts,
and that is what is compared: however the server writes times down, a second ``apply`` finds nothing to do.
"""

import contextlib
import sys
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from typing import Any

import typer
from temporalio.client import (
    Client,
    Schedule,
    ScheduleActionStartWorkflow,
    ScheduleAlreadyRunningError,
    ScheduleBackfill,
    ScheduleCalendarSpec,
    ScheduleDescription,
    ScheduleHandle,
    ScheduleIntervalSpec,
    ScheduleOverlapPolicy,
    SchedulePolicy,
    ScheduleRange,
    ScheduleSpec,
    ScheduleState,
    ScheduleUpdate,
    ScheduleUpdateInput,
)
from temporalio.common import Priority, SearchAttributeKey, SearchAttributePair, TypedSearchAttributes
from temporalio.service import RPCError, RPCStatusCode

from coafi.canonical import JsonObject
from coafi.errors import ResourceNotFoundError, Unavailable, ValidationError
from coafi.names import (
    PRIORITY_APPLICATION,
    SCHEDULES,
    EventType,
    Phase,
    SearchAttribute,
    TaskQueue,
    WorkflowName,
    action_workflow_id,
    fairness_key,
    parse_schedule_id,
    schedule_id,
)
from coafi.settings import Settings
from coafi.tasks.cron import Calendar, Span
from coafi.tasks.file import Schedule as Written
from coafi.tasks.file import ScheduleFile, load_schedules
from coafi.tasks.run import ScheduledTask
from starters.output import command_settings, facts, out, print_json, safe, styled, table
from starters.runs import temporal_client

MEMO_DEFINITION = "coafiSchedule"
"""The memo of what a schedule starts: the definition that the schedule was made from."""

SHOWN_TIMES = 3
"""The next times that ``list`` shows."""


class Change(StrEnum):
    """What ``apply`` does with a schedule."""

    CREATE = "create"
    UPDATE = "update"
    REMOVE = "remove"
    KEEP = "keep"


@dataclass(frozen=True)
class Step:
    """What is to be done with one schedule.

    Attributes:
        fields: what differs, by name, before and after.
    """

    name: str
    change: Change
    written: Written | None
    fields: Mapping[str, tuple[Any, Any]]

    def as_json(self) -> JsonObject:
        """For programs."""
        differs: JsonObject = {
            name: {"before": before, "after": after} for name, (before, after) in sorted(self.fields.items())
        }
        return {"schedule": self.name, "change": self.change, "fields": differs}


async def apply_schedules(*, dry_run: bool, yes: bool, as_json: bool) -> None:
    """``coafi schedules apply``."""
    settings = command_settings()
    file = load_schedules(settings.schedules)
    async with temporal_client(settings) as client:
        steps = await plan(client, file)
        wanted = [step for step in steps if step.change is not Change.KEEP]
        apply = bool(wanted) and not dry_run
        if not as_json:
            _print_plan(steps)
        if apply and not yes:
            if as_json or not sys.stdin.isatty():
                raise ValidationError(
                    f"{len(wanted)} changes were not applied", remedy="look at them with --dry-run, then say --yes"
                )
            if not typer.confirm(f"Apply {len(wanted)} changes?"):
                raise typer.Exit(1)
        if apply:
            await perform(client, wanted)
    if as_json:
        print_json({"applied": apply, "steps": [step.as_json() for step in steps]})
    elif apply:
        out.print(f"Applied {len(wanted)} changes.", highlight=False)


async def apply_at_start(client: Client, settings: Settings) -> int:
    """What ``coafi up`` does where the settings say so; how many schedules were changed.

    Raises:
        ValidationError: the file is not right.
        Unavailable: Temporal did not answer.
    """
    wanted = [step for step in await plan(client, load_schedules(settings.schedules)) if step.change is not Change.KEEP]
    await perform(client, wanted)
    return len(wanted)


async def plan(client: Client, file: ScheduleFile) -> list[Step]:
    """What it takes to make Temporal's schedules what the file says.

    Raises:
        Unavailable: Temporal did not answer.
    """
    there: dict[str, JsonObject | None] = {}
    async for name, description in _ours(client):
        there[name] = await _definition(description)
    for name in file.schedules.keys() - there.keys():  # the list lags behind
        with contextlib.suppress(ResourceNotFoundError):
            there[name] = await _definition(await (await _known(client, name)).describe())
    steps = []
    for name in sorted({*file.schedules, *there}):
        written = file.schedules.get(name)
        before, after = there.get(name), written.definition if written else None
        if name not in there:
            change = Change.CREATE
        elif written is None:
            change = Change.REMOVE
        else:
            change = Change.KEEP if before == after else Change.UPDATE
        fields = {} if change is Change.KEEP else _differences(before or {}, after or {})
        steps.append(Step(name, change, written, fields))
    return steps


async def perform(client: Client, steps: list[Step]) -> None:
    """Do what was planned. What somebody else did in between does no harm.

    Raises:
        Unavailable: Temporal did not answer.
    """
    for step in steps:
        handle = client.get_schedule_handle(schedule_id(step.name))
        try:
            match step.change:
                case Change.CREATE:
                    assert step.written is not None  # noqa: S101  # only what is not written is removed
                    await _create(client, handle, step.name, step.written)
                case Change.UPDATE:
                    assert step.written is not None  # noqa: S101
                    await _update(handle, step.name, step.written)
                case Change.REMOVE:
                    await _remove(handle)
                case Change.KEEP:
                    pass
        except RPCError as error:
            raise Unavailable(
                f"the schedule {step.name} was not changed: {error.message}", remedy="apply again: what is done stays"
            ) from error


async def list_schedules(*, as_json: bool) -> None:
    """``coafi schedules list``."""
    listed = []
    async with temporal_client(command_settings()) as client:
        async for name, description in _ours(client):
            listed.append((name, description, await _definition(description)))
    listed.sort(key=lambda one: one[0])
    if as_json:
        print_json([_as_json(*one) for one in listed])
        return
    rows = table("Schedule", "Task", "State", "Next", "#Done", "#Missed", "#Skipped", "Last run")
    for name, description, definition in listed:
        info, state = description.info, description.schedule.state
        recent = info.recent_actions[-1].scheduled_at if info.recent_actions else None
        rows.add_row(
            name,
            str((definition or {}).get("task", "?")),
            "[yellow]paused[/yellow]" if state.paused else "[green]active[/green]",
            "–" if state.paused or not info.next_action_times else _moment(info.next_action_times[0]),
            str(info.num_actions),
            str(info.num_actions_missed_catchup_window),
            str(info.num_actions_skipped_overlap),
            "–" if recent is None else _moment(recent),
        )
    out.print(rows if listed else "No schedules; make them with: coafi schedules apply")
    for name, description, _ in listed:
        if description.schedule.state.paused and description.schedule.state.note:
            out.print(f"{name} is paused: {safe(description.schedule.state.note)}", highlight=False)


async def trigger_schedule(name: str, *, as_json: bool) -> None:
    """``coafi schedules trigger``: now, or when what runs has ended: only so does Temporal see whether it fails."""
    async with temporal_client(command_settings()) as client:
        handle = await _known(client, name)
        await handle.trigger(overlap=ScheduleOverlapPolicy.BUFFER_ALL)
    _done(name, "triggered", as_json=as_json)


async def pause_schedule(name: str, reason: str, by: str, *, as_json: bool) -> None:
    """``coafi schedules pause``."""
    async with temporal_client(command_settings()) as client:
        await (await _known(client, name)).pause(note=f"{by}: {reason}")
    _done(name, "paused", as_json=as_json)


async def resume_schedule(name: str, reason: str, by: str, *, as_json: bool) -> None:
    """``coafi schedules resume``."""
    async with temporal_client(command_settings()) as client:
        await (await _known(client, name)).unpause(note=f"{by}: {reason}")
    _done(name, "resumed", as_json=as_json)


async def backfill_schedule(name: str, since: datetime, until: datetime, *, as_json: bool) -> None:
    """``coafi schedules backfill``: the times between two moments, one after the other.

    A time whose run there was already gives a duplicate, which does nothing.
    """
    if since >= until:
        raise ValidationError("--since is not before --until", remedy="say the earlier moment first")
    async with temporal_client(command_settings()) as client:
        # The first moment is exclusive to Temporal, and inclusive to whoever asks.
        fill = ScheduleBackfill(since - timedelta(seconds=1), until, overlap=ScheduleOverlapPolicy.BUFFER_ALL)
        await (await _known(client, name)).backfill(fill)
    _done(name, "backfilled", as_json=as_json)


def to_temporal(name: str, written: Written, *, state: ScheduleState | None = None) -> Schedule:
    """The Temporal Schedule of what is written.

    Args:
        state: as it is; by default as it begins.
    """
    every = [] if written.every is None else [_interval(written.every, written.offset)]
    return Schedule(
        action=ScheduleActionStartWorkflow(
            WorkflowName.SCHEDULED_TASK,
            ScheduledTask(
                schedule=name,
                task=written.task,
                parameters=written.parameters,
                give_up_after=written.give_up_after,
            ),
            id=action_workflow_id(name),
            task_queue=TaskQueue.EVENTS,
            memo={MEMO_DEFINITION: written.definition},
            typed_search_attributes=_search_attributes(),
            priority=Priority(priority_key=PRIORITY_APPLICATION, fairness_key=fairness_key(name)),
            static_summary=f"{written.task} · {name}"[:200],
        ),
        spec=ScheduleSpec(
            calendars=[_calendar(one) for one in written.calendars],
            intervals=every,
            jitter=timedelta(seconds=written.jitter) if written.jitter else None,
            time_zone_name=written.time_zone,
        ),
        policy=SchedulePolicy(
            overlap=ScheduleOverlapPolicy[written.overlap.upper().replace("-", "_")],
            catchup_window=timedelta(seconds=written.catch_up),
            pause_on_failure=written.pause_on_failure,
        ),
        state=state
        or ScheduleState(paused=written.paused, note="it begins paused" if written.paused else written.description),
    )


def _search_attributes() -> TypedSearchAttributes:
    values = {
        SearchAttribute.PHASE: Phase.RECEIVED,
        SearchAttribute.EVENT_TYPE: EventType.SCHEDULED_TASK,
        SearchAttribute.SOURCE: SCHEDULES,
    }
    return TypedSearchAttributes(
        [SearchAttributePair(SearchAttributeKey.for_keyword(name), str(value)) for name, value in values.items()]
    )


def _calendar(one: Calendar) -> ScheduleCalendarSpec:
    def ranges(spans: tuple[Span, ...]) -> list[ScheduleRange]:
        return [ScheduleRange(span.start, span.end, span.step) for span in spans]

    return ScheduleCalendarSpec(
        minute=ranges(one.minute),
        hour=ranges(one.hour),
        day_of_month=ranges(one.day_of_month),
        month=ranges(one.month),
        day_of_week=ranges(one.day_of_week),
    )


def _interval(every: int, offset: int) -> ScheduleIntervalSpec:
    return ScheduleIntervalSpec(every=timedelta(seconds=every), offset=timedelta(seconds=offset % every))


async def _create(client: Client, handle: ScheduleHandle, name: str, written: Written) -> None:
    try:
        await client.create_schedule(handle.id, to_temporal(name, written))
    except ScheduleAlreadyRunningError:
        await _update(handle, name, written)  # somebody was quicker


async def _update(handle: ScheduleHandle, name: str, written: Written) -> None:
    def changed(found: ScheduleUpdateInput) -> ScheduleUpdate:
        return ScheduleUpdate(to_temporal(name, written, state=found.description.schedule.state))

    await handle.update(changed)


async def _remove(handle: ScheduleHandle) -> None:
    try:
        await handle.delete()
    except RPCError as error:
        if error.status is not RPCStatusCode.NOT_FOUND:
            raise


async def _ours(client: Client) -> AsyncIterator[tuple[str, ScheduleDescription]]:
    """The schedules that are ours. Who lists asks an index that lags behind; who describes asks the schedule itself."""
    async for listed in await client.list_schedules():
        try:
            name = parse_schedule_id(listed.id)
        except ValueError:
            continue
        try:
            yield name, await client.get_schedule_handle(listed.id).describe()
        except RPCError as error:
            if error.status is not RPCStatusCode.NOT_FOUND:
                raise


async def _definition(description: ScheduleDescription) -> JsonObject | None:
    """What a schedule was made from; ``None`` when somebody else made it."""
    action = description.schedule.action
    memo = action.memo if isinstance(action, ScheduleActionStartWorkflow) else None
    value: Any = (memo or {}).get(MEMO_DEFINITION)
    if value is None or isinstance(value, dict):
        return value
    (decoded,) = await description.data_converter.decode([value])
    return decoded if isinstance(decoded, dict) else None


async def _known(client: Client, name: str) -> ScheduleHandle:
    handle = client.get_schedule_handle(schedule_id(name))
    try:
        await handle.describe()
    except RPCError as error:
        if error.status is RPCStatusCode.NOT_FOUND:
            raise ResourceNotFoundError(f"there is no schedule {name}", remedy="see `coafi schedules list`") from None
        raise
    return handle


def _differences(before: JsonObject, after: JsonObject) -> dict[str, tuple[Any, Any]]:
    names = sorted({*before, *after})
    return {name: (before.get(name), after.get(name)) for name in names if before.get(name) != after.get(name)}


_SECONDS = frozenset({"every", "offset", "jitter", "catchUp", "giveUpAfter"})


def _print_plan(steps: list[Step]) -> None:
    colours = {Change.CREATE: "green", Change.UPDATE: "yellow", Change.REMOVE: "red", Change.KEEP: "dim"}
    rows = table("Change", "Schedule", "What")
    for step in steps:
        shown = [(name, values) for name, values in step.fields.items() if any(map(_is_said, values))]
        said = "\n".join(_said(step.change, name, *values) for name, values in shown)
        rows.add_row(f"[{colours[step.change]}]{step.change}[/{colours[step.change]}]", step.name, said)
    out.print(rows if steps else "There are no schedules, and none are wanted.")


def _said(change: Change, name: str, before: object, after: object) -> str:
    match change:
        case Change.CREATE:
            return safe(f"{name}: {_value(name, after)}")
        case Change.REMOVE:
            return safe(f"{name}: {_value(name, before)}")
        case _:
            return safe(f"{name}: {_value(name, before)} → {_value(name, after)}")


def _is_said(value: object) -> bool:
    """Whether a value says anything; a number does, also zero."""
    return value not in (None, "", [], {}, False) or (value == 0 and value is not False)


def _value(name: str, value: object) -> str:
    """A value of a definition, for people."""
    if value is None:
        return "–"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, list):
        return "; ".join(map(str, value)) or "–"
    if isinstance(value, dict):
        return ", ".join(f"{key}: {_value(key, one)}" for key, one in value.items()) or "–"
    return f"{value} s" if name in _SECONDS else str(value)


def _as_json(name: str, description: ScheduleDescription, definition: JsonObject | None) -> JsonObject:
    info, state = description.info, description.schedule.state
    return {
        "schedule": name,
        "scheduleId": description.id,
        "definition": definition,
        "paused": state.paused,
        "note": state.note,
        "next": [_rfc(one) for one in info.next_action_times[:SHOWN_TIMES]],
        "done": info.num_actions,
        "missed": info.num_actions_missed_catchup_window,
        "skipped": info.num_actions_skipped_overlap,
        "running": [str(getattr(one, "workflow_id", "")) for one in info.running_actions],
        "recent": [_rfc(one.scheduled_at) for one in info.recent_actions],
    }


def _done(name: str, what: str, *, as_json: bool) -> None:
    if as_json:
        print_json({"schedule": name, "result": what})
        return
    rows = facts()
    rows.add_row(styled(what), name)
    out.print(rows)


def _moment(moment: datetime) -> str:
    return moment.astimezone(UTC).strftime("%Y-%m-%d %H:%M:%S")


def _rfc(moment: datetime) -> str:
    return moment.astimezone(UTC).isoformat().replace("+00:00", "Z")
