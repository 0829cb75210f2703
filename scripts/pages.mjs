// Drives Chromium for scripts/pages, which copies this file beside playwright-core and axe-core.
import assert from "node:assert/strict";
import { readFile, readdir } from "node:fs/promises";
import { chromium } from "playwright-core";

const [service, folder, pictures] = process.argv.slice(2);
assert.ok(service && folder, "usage: pages.mjs ADDRESS FOLDER-OF-MAILS [FOLDER-OF-PICTURES]");

const axe = await readFile(new URL("node_modules/axe-core/axe.min.js", import.meta.url), "utf8");
const rules = ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice"];
const unknown = "0".repeat(40);
const read = new Set();
let looked = 0;

const browser = await chromium.launch({
    executablePath: "/usr/bin/chromium",
    args: ["--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking"],
});
try {
    for (const [width, height] of [[390, 844], [1280, 800]]) {
        for (const colorScheme of ["light", "dark"]) {
            await see({ viewport: { width, height }, colorScheme }, `${width}-${colorScheme}`);
        }
    }
    await useWithoutScripts();
} finally {
    await browser.close();
}
console.log(`axe-core found nothing in ${looked} pages`);

/** Every page and state, by somebody with a browser like this. */
async function see(kind, name) {
    console.log(`\n== ${name}`);
    const context = await browser.newContext(kind);
    context.setDefaultTimeout(20_000);
    const page = await context.newPage();
    const complaints = [];
    page.on("console", (message) => complaints.push(message.text()));
    page.on("pageerror", (error) => complaints.push(String(error)));
    const look = async (state) => {
        await lookAt(page, state, kind);
        if (pictures) await page.screenshot({ path: `${pictures}/${state}-${name}.png`, fullPage: true });
    };

    const user = `azure-${name}`;
    const email = `${user}@diamond.example`;
    const registered = await call("/api/register", { username: user, password: "hunter22", email });
    assert.equal(registered.status, 201);

    // The address, by its link.
    const confirmation = await mailTo(email);
    await openLink(page, confirmation.link);
    await look("confirm-link");
    await press(page, "Confirm the address");
    await heading(page, "Your address is confirmed");
    await look("confirm-done");

    // A reset by the link, opened with the keyboard alone.
    await page.goto(`${service}/account/reset`);
    await look("reset-start");
    await page.getByLabel("E-mail address or username").fill(" ");
    await press(page, "Send the mail");
    await heading(page, "Set a new password");
    await isFocused(page, "account");
    await look("reset-start-wrong");
    await page.getByLabel("E-mail address or username").fill(user);
    await page.keyboard.press("Enter");
    await heading(page, "Check your mail");
    await look("reset-asked");
    const asked = await mailTo(email);
    await page.getByLabel("Code from the mail").fill(asked.code === "111 111" ? "222 222" : "111 111");
    await page.getByLabel("New password").fill("correct horse");
    await press(page, "Set the password");
    await page.getByRole("alert").waitFor();
    await isFocused(page, "proof");
    await look("reset-asked-wrong");
    await page.getByLabel("Code from the mail").fill(asked.code);
    await page.getByLabel("New password").fill("short");
    await press(page, "Set the password");
    await page.getByText("at least 8 characters.").first().waitFor();
    assert.equal(await page.getByLabel("Code from the mail").inputValue(), asked.code);
    await isFocused(page, "new_password");
    await look("reset-asked-short");

    await openLink(page, asked.link);
    await isFocused(page, "new_password");
    await look("reset-link");
    await page.getByLabel("New password").fill("short");
    await press(page, "Set the password");
    await page.getByText("at least 8 characters.").first().waitFor();
    assert.equal(await page.getByLabel("Link from the mail").isVisible(), false, "the token is in the form");
    await look("reset-link-short");
    const show = page.getByRole("button", { name: "Show" });
    await page.getByLabel("New password").fill("correct horse");
    await show.click();
    assert.equal(await page.getByLabel("New password").getAttribute("type"), "text");
    await look("reset-link-shown");
    await page.getByLabel("New password").press("Enter");
    await heading(page, "Your new password is set");
    await look("reset-done");
    assert.equal((await call("/api/login", { username: user, password: "correct horse" })).status, 200);

    // It works once.
    await openLink(page, asked.link);
    await page.getByLabel("New password").fill("battery staple");
    await press(page, "Set the password");
    await page.getByRole("alert").waitFor();
    await isFocused(page, "account");
    await look("reset-link-wrong");

    // The notice of the reset, disowned.
    const notice = await mailTo(email);
    await page.goto(`${service}/account/not-me`);
    await look("not-me-start");
    await openLink(page, notice.link);
    await look("not-me-link");
    await press(page, "This was not me");
    await heading(page, "Your account is protected");
    await look("not-me-done");
    await mailTo(email);

    for (const [path, state] of [["confirm", "confirm"], ["not-me", "not-me"]]) {
        await openLink(page, `${service}/account/${path}#${unknown}`);
        await page.getByRole("main").getByRole("button").press("Enter");
        await page.getByRole("alert").waitFor();
        await look(`${state}-wrong`);
    }
    await page.goto(`${service}/account/confirm`);
    await look("confirm-start");

    // A login: on to the app.
    await page.goto(`${service}/account/login`);
    await look("login-start");
    await openLink(page, `${service}/account/login#${unknown}`);
    const app = page.getByRole("link", { name: "Open the app" });
    assert.equal(await app.getAttribute("href"), `diamonds://account/login#${unknown}`);
    await look("login-link");

    // A form that no page of ours has sent.
    await page.goto(`${service}/account/confirm`);
    await page.evaluate(() => {
        document.querySelector("form").insertAdjacentHTML("beforeend", '<input type="hidden" name="other" value="x">');
        document.querySelector("#proof").value = "x";
    });
    await press(page, "Confirm the address");
    await heading(page, "That did not work");
    await look("error");

    // For the developer.
    await page.goto(`${service}/dev/mail`);
    await look("dev-mails");
    await page.getByRole("link", { name: user }).filter({ hasText: "password" }).last().click();
    await look("dev-mail");

    // Chromium tells of each answer that is an error, and of nothing else.
    const others = complaints.filter((text) => !/status of 4\d\d/.test(text));
    assert.deepEqual(others, []);
    await context.close();
}

/** A whole reset in a browser that runs no scripts. */
async function useWithoutScripts() {
    console.log("\n== Without scripts");
    const context = await browser.newContext({ javaScriptEnabled: false });
    const page = await context.newPage();
    const email = "plain@diamond.example";
    await call("/api/register", { username: "plain", password: "hunter22", email });
    const confirmation = await mailTo(email);
    await page.goto(confirmation.link);
    await page.getByLabel("Link from the mail").fill(confirmation.link);
    await press(page, "Confirm the address");
    await heading(page, "Your address is confirmed");
    await page.goto(`${service}/account/reset`);
    assert.equal(await page.getByRole("button", { name: "Show" }).isVisible(), false);
    await page.getByLabel("E-mail address or username").fill(email);
    await press(page, "Send the mail");
    await page.getByLabel("Code from the mail").fill((await mailTo(email)).code);
    await page.getByLabel("New password").fill("correct horse");
    await press(page, "Set the password");
    await heading(page, "Your new password is set");
    assert.equal((await call("/api/login", { username: "plain", password: "correct horse" })).status, 200);
    await context.close();
}

/** Opens a mail's link: its token leaves the address bar. */
async function openLink(page, link) {
    await page.goto("about:blank");
    await page.goto(link);
    assert.equal(page.url(), link.split("#")[0]);
    assert.ok(!(await page.locator("body").innerText()).includes(link.split("#")[1]), "nobody sees the token");
}

async function lookAt(page, state, { viewport }) {
    // The page's own policy forbids scripts of others, but not those of whoever drives the browser.
    await page.evaluate(axe);
    const run = (values) => globalThis.axe.run(document, { runOnly: { type: "tag", values } });
    const { violations: found } = await page.evaluate(run, rules);
    const told = found.map(({ id, help, nodes }) => `${id}: ${help}: ${nodes.map(({ html }) => html).join(" ")}`);
    assert.deepEqual(told, [], state);
    const width = await page.evaluate(() => document.documentElement.scrollWidth);
    assert.ok(width <= viewport.width, `${state} is ${width} pixels wide`);
    const small = await page.evaluate(() =>
        [...document.querySelectorAll("button, input:not([type=hidden]), .button, .mails a")]
            .filter((element) => element.checkVisibility())
            .filter((element) => element.getBoundingClientRect().height < 44)
            .map((element) => element.outerHTML),
    );
    assert.deepEqual(small, [], `${state}: large enough for a finger`);
    looked += 1;
}

async function press(page, name) {
    await page.getByRole("button", { name }).click();
}

async function heading(page, name) {
    await page.getByRole("heading", { level: 1, name }).waitFor();
}

async function isFocused(page, id) {
    assert.equal(await page.evaluate(() => document.activeElement?.id), id);
}

async function call(path, body) {
    const headers = { "Content-Type": "application/json" };
    return fetch(service + path, { method: "POST", headers, body: JSON.stringify(body) });
}

/** The next mail to an address: its link and its code. */
async function mailTo(email) {
    for (let attempt = 0; attempt < 200; attempt += 1) {
        const files = (await readdir(folder).catch(() => [])).filter((file) => file.endsWith(".eml")).sort();
        for (const file of files.filter((file) => !read.has(file))) {
            const mail = (await readFile(`${folder}/${file}`, "utf8")).replace(/=\r\n/g, "").replace(/=3D/g, "=");
            if (!mail.includes(`To: ${email}`)) continue;
            read.add(file);
            const link = mail.match(/http:\/\/\S+#[0-9a-f]{40}/)?.[0];
            return { link, code: mail.match(/^\s*(\d{3} \d{3})\s*$/m)?.[1] };
        }
        await new Promise((resolve) => setTimeout(resolve, 50));
    }
    throw new Error(`no mail reaches ${email}`);
}
