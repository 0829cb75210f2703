// Starts the service, a provider and the example page, and drives the page in Chromium. For scripts/identity, which has
// copied this folder to where the packages are. With `--stay` as the second argument a person may use the page instead.
import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { createHmac } from "node:crypto";
import { openSync } from "node:fs";
import { mkdtemp, readFile, writeFile } from "node:fs/promises";
import { createServer } from "node:http";
import { createServer as createListener } from "node:net";
import { chromium } from "playwright-core";
import { startProvider } from "./provider.mjs";

const [binary, stay] = process.argv.slice(2);
assert.ok(binary, "usage: drive.mjs BINARY [--stay]");

const port = await freePort();
const service = `http://localhost:${port}`;
const files = { "/": ["index.html", "text/html"], "/page.js": ["page.js", "text/javascript"], "/page.css": ["page.css", "text/css"] };
const settings = { service };
const pages = createServer(servePage);
await new Promise((resolve) => pages.listen(0, "localhost", resolve));
const origin = `http://localhost:${pages.address().port}`;
const provider = await startProvider({ callback: `${service}/api/login/oidc/example/callback`, page: `${origin}/` });
settings.provider = { name: "example", label: "Example", client_id: "page", authorize: `${provider.issuer}/auth` };
const server = await startService();

let browser, said;
try {
    if (stay) {
        console.log(`The page is at ${origin}/, until Ctrl-C.`);
        await new Promise((resolve) => process.once("SIGINT", resolve));
    } else {
        await drive();
    }
} catch (error) {
    console.log(`The page says: ${await said?.()}`);
    throw error;
} finally {
    await browser?.close();
    provider.stop();
    pages.close();
    pages.closeAllConnections();
    await stopService();
}

/** A port that was free a moment ago: the provider and the page must know the service's address before it starts. */
async function freePort() {
    const listener = createListener();
    await new Promise((resolve) => listener.listen(0, "127.0.0.1", resolve));
    const { port } = listener.address();
    await new Promise((resolve) => listener.close(resolve));
    return port;
}

async function servePage(request, response) {
    const { pathname } = new URL(request.url, "http://localhost");
    if (pathname === "/settings.json") {
        response.setHeader("Content-Type", "application/json").end(JSON.stringify(settings));
    } else if (files[pathname]) {
        const [name, type] = files[pathname];
        response.setHeader("Content-Type", `${type}; charset=utf-8`).end(await readFile(name));
    } else {
        response.writeHead(404).end();
    }
}

async function startService() {
    await writeFile(
        "config.toml",
        `[server]
listen = "127.0.0.1:${port}"
public_url = "${service}"
[password]
bcrypt_cost = 10
[passkeys]
rp_id = "localhost"
origins = ["${origin}"]
[identities]
return_to = ["${origin}/"]
[outbound]
allow = ["127.0.0.1/32"]
[[provider]]
name = "example"
label = "Example"
issuer = "${provider.issuer}"
client_ids = ["service", "page"]
client_secret = "a secret of the trial"
require_nonce = true
`,
        { mode: 0o600 },
    );
    const log = openSync("log", "w");
    const started = spawn(binary, ["--config", "config.toml", "--database", "db"], { stdio: ["ignore", log, log] });
    for (let tries = 0; tries < 100; tries += 1) {
        if (started.exitCode !== null) break;
        const ready = await fetch(`${service}/readyz`).catch(() => undefined);
        if (ready?.ok) return started;
        await new Promise((resolve) => setTimeout(resolve, 100));
    }
    throw new Error("the service did not start");
}

async function stopService() {
    const ended = new Promise((resolve) => server.once("exit", resolve));
    server.kill();
    assert.equal(await ended, 0, "how the service ended");
}

async function drive() {
    browser = await chromium.launchPersistentContext(await mkdtemp("profile-"), {
        executablePath: "/usr/bin/chromium",
        args: ["--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-background-networking", "--disable-component-update", "--disable-sync"],
    });
    browser.setDefaultTimeout(20_000);
    const page = await browser.newPage();
    const complaints = [];
    page.on("pageerror", (error) => complaints.push(String(error)));
    await addAuthenticator(page);

    said = async () => (await page.locator("#said").innerText()) || "nothing";

    const open = () => page.goto(`${origin}/`).then(ready);
    const ready = () => page.locator("body[data-ready=yes]").waitFor();
    const inside = async () => {
        await page.locator("#inside").waitFor();
        return page.locator("#username").innerText();
    };
    const leave = async () => {
        await page.click("#logout");
        await page.locator("#outside").waitFor();
    };
    const withPassword = async (what = "login") => {
        await page.fill("#with-password [name=username]", "AzureDiamond");
        await page.fill("#with-password [name=password]", "hunter2");
        await page.click(`#with-password [value=${what}]`);
    };
    const second = async (field, value) => {
        await page.locator("#second").waitFor();
        await page.fill(`#with-code [name=${field}]`, value);
        await page.click("#with-code button");
    };
    const fresh = async () => {
        await page.click("#reauthenticate-passkey");
        await page.getByText("Changes are allowed until").waitFor();
    };
    /** The provider's own pages. */
    const atProvider = async (name) => {
        await page.waitForURL(`${provider.issuer}/interaction/**`);
        if (await page.locator("[name=login]").count()) {
            await page.fill("[name=login]", name);
            await page.fill("[name=password]", "any");
            await page.click("button[type=submit]");
            await page.locator("[name=login]").waitFor({ state: "detached" });
        }
        if (page.url().startsWith(provider.issuer)) await page.click("button[type=submit]");
        await page.waitForURL(`${origin}/`);
        await ready();
    };

    await open();
    await withPassword("register");
    assert.equal(await inside(), "AzureDiamond");
    await leave();
    await withPassword();
    await inside();
    console.log("A password opens the account");

    await page.click("#add-passkey button");
    await page.getByText("Invalid Data").waitFor();
    console.log("A passkey is not added in a session that is not fresh");
    await page.fill("#reauthenticate [name=password]", "hunter2");
    await page.click("#reauthenticate button");
    await page.getByText("Changes are allowed until").waitFor();
    await page.click("#add-passkey button");
    await page.locator("#passkeys li").waitFor();
    await leave();
    await page.click("#with-passkey");
    assert.equal(await inside(), "AzureDiamond");
    console.log("A passkey is added, and opens the account");

    await fresh();
    await page.click("#add-totp");
    await page.locator("#pending").waitFor();
    const secret = await page.locator("#secret").innerText();
    await page.waitForFunction(() => document.querySelector("#qr").naturalWidth > 0);
    await page.fill("#confirm-totp [name=code]", totp(secret, 0));
    await page.click("#confirm-totp button");
    await page.locator("#recovery-codes li").nth(9).waitFor();
    const codes = (await page.locator("#recovery-codes li").allInnerTexts()).map((code) => code.trim());
    await leave();
    await withPassword();
    // Each time step counts once, and a code of the next one is taken already.
    const used = totp(secret, 1);
    await second("code", used);
    await inside();
    console.log("An authenticator app is added, and its code is asked for after the password");

    await leave();
    await withPassword();
    await second("recovery_code", codes[0]);
    await inside();
    const next = (await page.locator("#said").innerText()).replace(/.*: /, "");
    await leave();
    await withPassword();
    await second("recovery_code", codes[0]);
    await page.getByText("The code is wrong").waitFor();
    await second("recovery_code", next);
    await inside();
    console.log("A recovery code takes its place, once, and is replaced");

    await leave();
    await withPassword();
    await page.click("#second-passkey");
    await inside();
    await leave();
    await page.click("#with-passkey");
    await inside();
    console.log("A passkey is both factors");

    await fresh();
    await page.click("#add-passkey button");
    await page.getByText("code is required").waitFor();
    console.log("Where there is an authenticator app, a passkey is not added without its code");

    await page.click("#linkable button");
    await atProvider("diamond");
    await page.locator("#identities li").waitFor();
    await leave();
    await browser.clearCookies();
    await page.click("#providers button");
    await atProvider("diamond");
    await second("recovery_code", codes[1]);
    assert.equal(await inside(), "AzureDiamond");
    console.log("An identity is linked and, with the second factor, opens the account");

    await leave();
    await browser.clearCookies();
    await page.click("#providers button");
    await atProvider("stranger");
    const stranger = await inside();
    assert.notEqual(stranger, "AzureDiamond");
    console.log(`Somebody else at the provider is given an account: ${stranger}`);

    await leave();
    await page.click("#with-passkey");
    await inside();
    await fresh();
    await page.click("#identities button");
    await page.locator("#identities li").waitFor({ state: "detached" });
    await page.click("#passkeys button");
    await page.locator("#passkeys li").waitFor({ state: "detached" });
    const removeTotp = async (code) => {
        await page.fill("#remove-totp [name=code]", code);
        await page.click("#remove-totp button");
    };
    await removeTotp(used);
    await page.getByText("the code is wrong").waitFor();
    await removeTotp(codes[2]);
    await page.getByText("Off.").waitFor();
    await leave();
    await withPassword();
    await inside();
    console.log("Identity, passkey and authenticator app are removed, and the password opens the account");
    assert.deepEqual(complaints, []);
}

/** A security key of the browser's own, that verifies its user. */
async function addAuthenticator(page) {
    const devtools = await browser.newCDPSession(page);
    await devtools.send("WebAuthn.enable");
    await devtools.send("WebAuthn.addVirtualAuthenticator", {
        options: {
            protocol: "ctap2",
            transport: "internal",
            hasResidentKey: true,
            hasUserVerification: true,
            isUserVerified: true,
            automaticPresenceSimulation: true,
        },
    });
}

/** The code of an authenticator app (RFC 6238), some steps from now. */
function totp(secret, steps) {
    const bits = [...secret].map((c) => "ABCDEFGHIJKLMNOPQRSTUVWXYZ234567".indexOf(c).toString(2).padStart(5, "0")).join("");
    const key = Buffer.from(bits.match(/.{8}/g).map((byte) => parseInt(byte, 2)));
    const counter = Buffer.alloc(8);
    counter.writeBigUInt64BE(BigInt(Math.floor(Date.now() / 30_000) + steps));
    const mac = createHmac("sha1", key).update(counter).digest();
    const at = mac[19] & 15;
    return String((mac.readUInt32BE(at) & 0x7fffffff) % 1_000_000).padStart(6, "0");
}
