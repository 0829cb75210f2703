// Drives Chromium for scripts/browser, which copies this file beside browser.html and playwright-core.
import assert from "node:assert/strict";
import { mkdtemp, readFile } from "node:fs/promises";
import { createServer } from "node:http";
import { chromium } from "playwright-core";

const service = process.argv[2];
assert.ok(service, "usage: browser.mjs ADDRESS");

// Another port is another origin.
const page = await readFile(new URL("browser.html", import.meta.url));
const elsewhere = createServer((_, response) => response.setHeader("Content-Type", "text/html").end(page));
await new Promise((resolve) => elsewhere.listen(0, "127.0.0.1", resolve));

const browser = await chromium.launchPersistentContext(await mkdtemp("profile-"), {
    executablePath: "/usr/bin/chromium",
    viewport: { width: 1280, height: 1600 },
    args: [
        "--no-sandbox",
        "--disable-gpu",
        "--disable-quic",
        "--no-first-run",
        "--disable-background-networking",
        "--disable-component-update",
        "--disable-sync",
    ],
});
browser.setDefaultTimeout(20_000);
try {
    const token = await callFromElsewhere();
    await readTheDocumentation(token);
    await readItOnAPhone();
} finally {
    await browser.close();
    elsewhere.close();
}

async function callFromElsewhere() {
    const origin = `http://127.0.0.1:${elsewhere.address().port}`;
    console.log(`\n== A page of ${origin}`);
    const page = await browser.newPage();
    page.on("console", (message) => message.type() === "log" && console.log(message.text()));

    // Preflights are the browser's own: only its network log has them.
    const preflights = new Set();
    const network = await browser.newCDPSession(page);
    network.on("Network.requestWillBeSent", ({ request }) => {
        if (request.method === "OPTIONS") preflights.add(request.headers["Access-Control-Request-Method"]);
    });
    await network.send("Network.enable");

    await page.goto(origin);
    const token = await page.evaluate((address) => globalThis.run(address), service);
    console.log(`Preflights for ${[...preflights].sort().join(", ")}`);
    assert.deepEqual([...preflights].sort(), ["DELETE", "GET", "PATCH", "POST", "PUT"]);
    await page.close();
    return token;
}

async function readTheDocumentation(token) {
    console.log(`\n== ${service}/docs`);
    const page = await browser.newPage();
    const complaints = [];
    const hosts = new Set();
    page.on("console", (message) => {
        if (["error", "warning"].includes(message.type())) complaints.push(message.text());
    });
    page.on("pageerror", (error) => complaints.push(String(error)));
    page.on("requestfailed", (request) => complaints.push(`${request.url()}: ${request.failure()?.errorText}`));
    page.on("request", (request) => {
        // What is written in the page itself (data:, blob:) asks no host.
        const { protocol, origin } = new URL(request.url());
        if (!["data:", "blob:"].includes(protocol)) hosts.add(origin);
    });

    await page.goto(`${service}/docs`);
    await page.locator(".info .title").waitFor();
    const paths = Object.values((await (await fetch(`${service}/api/openapi.json`)).json()).paths);
    const calls = paths.reduce((count, path) => count + Object.keys(path).length, 0);
    await page.locator(".opblock").first().waitFor();
    assert.equal(await page.locator(".opblock").count(), calls);
    console.log(`${calls} calls are shown`);

    await page.locator(".btn.authorize").click();
    const scheme = page.locator(".auth-container", { hasText: "Token" });
    await scheme.locator("input").fill(token);
    await scheme.locator("button.authorize").click();
    await scheme.getByText("Authorized", { exact: true }).waitFor();
    await page.locator(".btn-done").click();
    console.log("The token is taken");

    const call = page.locator(".opblock-get", { has: page.locator('[data-path="/api/user"]') });
    await call.locator(".opblock-summary-control").click();
    await call.locator(".try-out__btn").click();
    await call.locator(".execute").click();
    const answer = call.locator(".live-responses-table .response");
    await answer.waitFor();
    const status = (await answer.locator(".response-col_status").innerText()).trim();
    const body = await answer.locator(".highlight-code").first().innerText();
    console.log(`GET    /api/user            ${status} ${body.replace(/\s+/g, " ").slice(0, 76)}`);
    assert.equal(status, "200");
    assert.match(body, /"username": "Page"/);

    if (process.env.SCREENSHOT) await page.screenshot({ path: process.env.SCREENSHOT });
    console.log(`Asked: ${[...hosts].join(", ")}; complaints: ${complaints.length}`);
    assert.deepEqual([...hosts], [service]);
    assert.deepEqual(complaints, []);
}

async function readItOnAPhone() {
    console.log(`\n== ${service}/docs on a phone`);
    const page = await browser.newPage();
    for (const width of [390, 320]) {
        await page.setViewportSize({ width, height: 844 });
        await page.goto(`${service}/docs`);
        await page.locator(".opblock").first().waitFor();
        const open = (selector) => document.querySelectorAll(selector).forEach((control) => control.click());
        await page.evaluate(open, ".opblock:not(.is-open) .opblock-summary-control");
        await page.locator(".opblock:not(.is-open)").first().waitFor({ state: "detached" });
        await page.evaluate(open, ".try-out__btn");
        await page.locator(".body-param__text, .body-param textarea").first().waitFor();
        const scrolled = await page.evaluate(() => document.documentElement.scrollWidth);
        assert.ok(scrolled <= width, `with all calls open it is ${scrolled} wide`);
        console.log(`${width} wide, with all calls open`);
    }
    await page.close();
}
