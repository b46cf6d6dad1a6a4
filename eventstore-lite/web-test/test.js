// Uses the page of eventstore-lite in a headless Chromium like a person, against the server at SERVER (host:port).
//
// Prints one line per check, and exits with 1 if any failed. PLANTED=1 adds a check that must fail. Screenshots go to
// the folder SCREENSHOTS.
"use strict";

const assert = require("node:assert/strict");
const { mkdtempSync, rmSync } = require("node:fs");
const { tmpdir } = require("node:os");
const path = require("node:path");
const { chromium } = require("playwright-core");
const {
  EventStoreDBClient,
  START,
  binaryEvent,
  jsonEvent,
  persistentSubscriptionToStreamSettingsFromDefaults,
} = require("@eventstore/db-client");

const server = process.env.SERVER;
const screenshots = process.env.SCREENSHOTS;
const checks = [];
const check = (title, run) => checks.push({ title, run });

const DEADLINE = 60_000;
const HOSTILE = `<img src=x onerror="document.title='owned'">`;

async function fill(client) {
  const order = (n) => jsonEvent({ type: "Placed", data: { n, items: ["tea", "milk"] }, metadata: { by: "test" } });
  await client.appendToStream("orders-1", Array.from({ length: 120 }, (_, n) => order(n)));
  await client.appendToStream(`strange-${HOSTILE}`, jsonEvent({ type: HOSTILE, data: { HOSTILE } }));
  await client.appendToStream("bytes-1", binaryEvent({ type: "Raw", data: Buffer.from([0xff, 0xfe]) }));
  await client.appendToStream("links-1", binaryEvent({ type: "$>", data: Buffer.from("3@orders-1") }));
  await client.appendToStream("gone-1", order(0));
  await client.tombstoneStream("gone-1");
  await client.appendToStream("away-1", order(0));
  await client.deleteStream("away-1");
}

const open = (page, hash) => page.goto(`http://${server}/web${hash}`);
const rows = (page) => page.locator("tbody tr.event");

check("streams are listed, searched, and distinguished from deleted ones", async (page) => {
  await open(page, "");
  await page.getByRole("link", { name: "orders-1" }).waitFor();
  assert.match(await page.getByRole("row", { name: "gone-1" }).innerText(), /deleted for ever/);
  assert.match(await page.getByRole("row", { name: "away-1" }).innerText(), /deleted$/);
  await page.screenshot({ path: path.join(screenshots, "streams.png") });
  await page.getByRole("searchbox").fill("ord");
  await page.getByRole("link", { name: "gone-1" }).waitFor({ state: "detached" });
  await page.getByRole("link", { name: "orders-1" }).click();
  await page.getByRole("heading", { name: "orders-1" }).waitFor();
});

check("events are shown newest first, in pages, and open to formatted JSON", async (page) => {
  await open(page, "#/stream/orders-1");
  await rows(page).nth(49).waitFor();
  assert.equal(await rows(page).count(), 50);
  assert.match(await rows(page).first().innerText(), /\b119\b/);
  await page.getByRole("button", { name: "More" }).click();
  await rows(page).nth(99).waitFor();
  await page.getByRole("button", { name: "More" }).click();
  await rows(page).nth(119).waitFor();
  await page.getByRole("button", { name: "More" }).waitFor({ state: "hidden" });
  await rows(page).first().locator("td").first().click();
  const data = await page.locator("pre").first().innerText();
  assert.deepEqual(JSON.parse(data), { n: 119, items: ["tea", "milk"] });
  assert.ok(data.includes("\n  "), "the JSON is not formatted");
  await page.screenshot({ path: path.join(screenshots, "events.png") });
});

check("the content of events is shown and not run", async (page) => {
  await open(page, "#/all");
  await page.getByText(HOSTILE).first().waitFor();
  assert.equal(await page.title(), "eventstore-lite");
  assert.equal(await page.locator("main img").count(), 0);
  await open(page, "#/stream/bytes-1");
  await rows(page).first().locator("td").first().click();
  await page.getByText("2 bytes that are not text").waitFor();
});

check("a link is shown with its target", async (page) => {
  await open(page, "#/stream/links-1");
  await page.getByText("3@orders-1").waitFor();
  await rows(page).first().locator("td").first().click();
  assert.equal(JSON.parse(await page.locator("pre").first().innerText()).n, 3);
});

check("a live page shows new events, of one stream or of all", async (page, client) => {
  for (const [hash, stream] of [["#/stream/orders-1", "orders-1"], ["#/all", "orders-2"]]) {
    await open(page, hash);
    await rows(page).first().waitFor();
    await page.getByRole("button", { name: "Live" }).click();
    await page.locator("button[data-open=true]").waitFor();
    await client.appendToStream(stream, jsonEvent({ type: `Now-${stream}`, data: {} }));
    await page.locator("tr.new", { hasText: `Now-${stream}` }).waitFor();
  }
  await page.screenshot({ path: path.join(screenshots, "live.png") });
});

check("parked events are counted, and replayed on request", async (page, client) => {
  const settings = persistentSubscriptionToStreamSettingsFromDefaults({ startFrom: START });
  await client.createPersistentSubscriptionToStream("orders-1", "mail", settings);
  const subscription = client.subscribeToPersistentSubscriptionToStream("orders-1", "mail", { bufferSize: 1 });
  const events = subscription[Symbol.asyncIterator]();
  const { value: parked } = await events.next();
  await subscription.nack("park", "later", parked);
  await open(page, "#/groups");
  const row = page.getByRole("row", { name: "mail" });
  await row.waitFor();
  while ((await row.locator("td").nth(6).innerText()) !== "1") {
    await page.getByRole("button", { name: "Refresh" }).click();
  }
  await page.screenshot({ path: path.join(screenshots, "groups.png") });
  await row.getByRole("button", { name: "Replay parked" }).click();
  for (let again = null; again?.event.id !== parked.event.id; ) {
    ({ value: again } = await events.next());
    await subscription.ack(again);
  }
  await subscription.unsubscribe();
});

check("a missing stream is reported", async (page) => {
  await open(page, "#/stream/nothing-1");
  await page.getByRole("alert").filter({ hasText: "no such stream" }).waitFor();
  await open(page, "#/stream/gone-1");
  await page.getByRole("alert").filter({ hasText: "deleted for ever" }).waitFor();
});

check("figures are shown", async (page) => {
  await open(page, "#/figures");
  await page.getByText("eventstore_db_size_bytes").first().waitFor();
  await page.screenshot({ path: path.join(screenshots, "figures.png") });
});

check("nothing is loaded from other servers, and nothing fails", async (page, _, seen) => {
  await open(page, "");
  await page.getByRole("link", { name: "orders-1" }).waitFor();
  assert.deepEqual(seen.foreign, []);
  assert.deepEqual(seen.errors.filter((error) => !/status of (404|410)/.test(error)), []);
});

const planted = {
  title: "the planted difference",
  run: async (page) => {
    await open(page, "#/stream/orders-1");
    await rows(page).first().waitFor();
    assert.match(await rows(page).first().innerText(), /planted/);
  },
};

// The foreign requests of the browser, and its complaints.
function watch(page) {
  const seen = { foreign: [], errors: [] };
  page.on("request", (request) => {
    const url = new URL(request.url());
    if (url.host !== server && url.protocol !== "data:") seen.foreign.push(request.url());
  });
  page.on("pageerror", (error) => seen.errors.push(error.message));
  page.on("console", (message) => {
    if (message.type() === "error") seen.errors.push(message.text());
  });
  return seen;
}

function late() {
  return new Promise((_, reject) => setTimeout(() => reject(new Error("the check timed out")), DEADLINE).unref());
}

async function main() {
  const client = EventStoreDBClient.connectionString(`esdb://${server}?tls=false`);
  // The planted check uses what the other checks have created.
  if (!process.env.PLANTED) await fill(client);
  const profile = mkdtempSync(path.join(tmpdir(), "browser-"));
  const args = ["--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking"];
  const executablePath = process.env.CHROMIUM ?? "/usr/bin/chromium";
  const browser = await chromium.launchPersistentContext(profile, { executablePath, args, headless: true });
  const page = await browser.newPage();
  const seen = watch(page);
  const all = process.env.PLANTED ? [planted] : checks;
  let failed = 0;
  for (const { title, run } of all) {
    try {
      await Promise.race([run(page, client, seen), late()]);
      console.log(`ok      ${title}`);
    } catch (error) {
      failed += 1;
      console.log(`FAILED  ${title}\n${error.stack}`);
    }
  }
  await browser.close();
  await client.dispose();
  rmSync(profile, { recursive: true, force: true });
  console.log(`${all.length - failed} of ${all.length} checks passed`);
  return failed ? 1 : 0;
}

main().then((code) => process.exit(code));
