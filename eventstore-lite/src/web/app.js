// The page of eventstore-lite. Content of events is only ever set as text.
"use strict";

const main = document.getElementById("main");
const MOST_ROWS = 500;
let tail = null;

// Creates an element with attributes, and children that are elements or texts.
function make(tag, attributes = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (typeof value === "function") element.addEventListener(name, value);
    else element.setAttribute(name, value);
  }
  element.append(...children);
  return element;
}

async function ask(path, parameters = {}) {
  const wanted = Object.entries(parameters).filter(([, value]) => value !== null && value !== undefined);
  const answer = await fetch(`${path}?${new URLSearchParams(wanted)}`);
  if (!answer.ok) throw new Error((await answer.text()) || answer.statusText);
  return answer;
}

const asJson = async (path, parameters) => (await ask(path, parameters)).json();

const time = (ticks) => new Date(Number(BigInt(ticks) / 10000n)).toISOString().replace("T", " ").replace("Z", "");
const linkTo = (stream) => make("a", { href: `#/stream/${encodeURIComponent(stream)}` }, stream);

function table(...headings) {
  const body = make("tbody");
  const row = make("tr", {}, ...headings.map((heading) => make("th", { scope: "col" }, heading)));
  return [make("table", {}, make("thead", {}, row), body), body];
}

// A button that loads page after page, until `load` returns that there is no more.
function pager(load) {
  const button = make("button", { type: "button" }, "More");
  let next = null;
  const more = async () => {
    button.disabled = true;
    next = await load(next);
    button.hidden = next === null;
    button.disabled = false;
  };
  button.addEventListener("click", () => more().catch(failed));
  return [button, more];
}

function failed(error) {
  main.append(make("p", { class: "error", role: "alert" }, error.message));
}

async function streams() {
  const search = make("input", { type: "search", placeholder: "Names that begin with …  ($ for system streams)", "aria-label": "Prefix" });
  const [view, body] = table("Stream", "Last revision", "");
  const [button, more] = pager(async (after) => {
    const page = await asJson("/web/api/streams", { prefix: search.value, after });
    for (const { name, last, tombstoned, deleted } of page.streams) {
      const state = tombstoned ? "deleted for ever" : deleted ? "deleted" : "";
      const cells = [linkTo(name), last ?? "–", state].map((cell) => make("td", {}, cell));
      body.append(make("tr", {}, ...cells));
    }
    return page.next;
  });
  search.addEventListener("input", () => {
    history.replaceState(null, "", `#/streams?${new URLSearchParams({ prefix: search.value })}`);
    route();
  });
  search.value = new URLSearchParams(location.hash.split("?")[1]).get("prefix") ?? "";
  main.replaceChildren(make("h1", {}, "Streams"), make("div", { class: "bar" }, search), view, button);
  search.focus();
  await more();
}

function details(event) {
  const facts = [
    ["id", event.id],
    ["position", event.position],
    ["created", `${time(event.created)} UTC`],
  ];
  const list = facts.flatMap(([name, value]) => [make("dt", {}, name), make("dd", {}, value)]);
  const parts = [make("dl", {}, ...list), make("pre", {}, event.data || "(no data)")];
  if (event.metadata) parts.push(make("span", { class: "note" }, "metadata"), make("pre", {}, event.metadata));
  return parts;
}

function eventRow({ record, target }, isNew) {
  const columns = [time(record.created), linkTo(record.stream), record.revision, (target ?? record).type];
  const cells = columns.map((column) => make("td", {}, column));
  if (target) cells[3].append(make("span", { class: "note" }, ` ← ${target.revision}@${target.stream}`));
  const row = make("tr", { class: isNew ? "event new" : "event", tabindex: "0", "aria-expanded": "false" }, ...cells);
  const toggle = (event) => {
    if (event.target.closest("a") || (event.key && event.key !== "Enter")) return;
    const open = row.nextSibling?.classList?.contains("details");
    if (open) row.nextSibling.remove();
    else row.after(make("tr", { class: "details" }, make("td", { colspan: "4" }, ...details(target ?? record))));
    row.setAttribute("aria-expanded", String(!open));
  };
  row.addEventListener("click", toggle);
  row.addEventListener("keydown", toggle);
  return row;
}

async function events(stream) {
  const [view, body] = table("Time (UTC)", "Stream", "Revision", "Type");
  const [button, more] = pager(async (before) => {
    const page = await asJson("/web/api/events", { stream, before });
    body.append(...page.events.map((event) => eventRow(event, false)));
    return page.next;
  });
  const live = make("button", { type: "button", "aria-pressed": "false" }, "Live");
  live.addEventListener("click", () => {
    const on = tail === null;
    live.setAttribute("aria-pressed", String(on));
    if (on) follow(stream, body, live);
    else stopTail();
  });
  const bar = make("div", { class: "bar" }, live, make("span", { class: "note" }, "newest first"));
  main.replaceChildren(make("h1", {}, stream ?? "All events"), bar, view, button);
  await more();
}

function follow(stream, body, live) {
  const parameters = stream === undefined ? "" : `?${new URLSearchParams({ stream })}`;
  tail = new EventSource(`/web/api/tail${parameters}`);
  tail.onopen = () => (live.dataset.open = "true");
  tail.onmessage = ({ data }) => {
    body.prepend(eventRow(JSON.parse(data), true));
    while (body.children.length > MOST_ROWS) body.lastChild.remove();
  };
}

function stopTail() {
  tail?.close();
  tail = null;
}

async function groups() {
  const [view, body] = table("Stream", "Group", "Strategy", "State", "Clients", "In flight", "Parked", "Checkpoint", "Last read", "");
  const load = async () => {
    const rows = (await asJson("/web/api/groups")).map((group) => {
      const { stream, strategy, state, clients, in_flight, parked, checkpoint, last } = group;
      const facts = [group.group, strategy, state, clients, in_flight, parked, checkpoint ?? "–", last ?? "–"];
      const replay = make("button", { type: "button", click: () => replayParked(group).then(load).catch(failed) }, "Replay parked");
      replay.disabled = parked === "0";
      const cells = [stream === "$all" ? "$all" : linkTo(stream), ...facts, replay].map((cell) => make("td", {}, cell));
      return make("tr", {}, ...cells);
    });
    body.replaceChildren(...rows);
  };
  const again = make("button", { type: "button", click: () => load().catch(failed) }, "Refresh");
  main.replaceChildren(make("h1", {}, "Persistent subscriptions"), make("div", { class: "bar" }, again), view);
  await load();
}

async function replayParked({ stream, group }) {
  const body = JSON.stringify({ stream, group });
  const headers = { "content-type": "application/json" };
  const answer = await fetch("/web/api/groups/replay", { method: "POST", headers, body });
  if (!answer.ok) throw new Error((await answer.text()) || answer.statusText);
}

async function figures() {
  const text = await (await ask("/metrics")).text();
  const help = new Map();
  const [view, body] = table("Figure", "Value", "");
  for (const line of text.split("\n")) {
    const told = /^# HELP (\S+) (.*)$/.exec(line);
    if (told) help.set(told[1], told[2]);
    const sample = /^([a-z_]+)(\{.*\})? (\S+)$/.exec(line);
    if (!sample || sample[1].endsWith("_bucket")) continue;
    const [, name, labels, value] = sample;
    const cells = [name + (labels ?? ""), value, help.get(name) ?? ""];
    body.append(make("tr", {}, ...cells.map((cell) => make("td", {}, cell))));
  }
  const again = make("button", { type: "button", click: () => route() }, "Refresh");
  main.replaceChildren(make("h1", {}, "Figures"), make("div", { class: "bar" }, again), view);
}

function route() {
  stopTail();
  const [path] = location.hash.slice(1).split("?");
  const [, view, name] = path.split("/");
  for (const link of document.querySelectorAll("nav a")) {
    if (link.hash === `#/${view}`) link.setAttribute("aria-current", "page");
    else link.removeAttribute("aria-current");
  }
  const views = { all: () => events(), stream: () => events(decodeURIComponent(name)), groups, figures };
  (views[view] ?? streams)().catch(failed);
}

window.addEventListener("hashchange", route);
if (!location.hash) history.replaceState(null, "", "#/streams");
route();
