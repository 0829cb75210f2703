// An example of a sign-in page: password, passkey, authenticator app and a provider, against a service of another
// origin. The token is kept for as long as the tab is open.

const $ = (id) => document.getElementById(id);

// Where the service is, and how this page asks the provider for an ID token of its own.
const { service, provider } = await (await fetch("settings.json")).json();

let token = sessionStorage.getItem("token");
/** What a login lacked: the token of its second factor, or the one by which an identity is linked. */
let second, link;

/** One call. What is refused is thrown, with the whole answer. */
async function call(method, path, body) {
    const headers = {};
    if (token) headers.Authorization = `Token ${token}`;
    if (body !== undefined) headers["Content-Type"] = "application/json";
    const response = await fetch(service + path, { method, headers, body: body && JSON.stringify(body) });
    const answer = await response.json();
    if (!response.ok) throw Object.assign(new Error(answer.error), { status: response.status, answer });
    return answer;
}

/** A random text for PKCE, `state` and `nonce`. */
const random = () => base64url(crypto.getRandomValues(new Uint8Array(32)));
const base64url = (bytes) =>
    btoa(String.fromCharCode(...new Uint8Array(bytes))).replace(/\+/g, "-").replace(/\//g, "_").replace(/=/g, "");
const sha256 = (text) => crypto.subtle.digest("SHA-256", new TextEncoder().encode(text));

// ---- Ways in. Each ends in `enter` with the answer of a login, or throws it.

async function enter(answer) {
    token = answer.token;
    sessionStorage.setItem("token", token);
    second = undefined;
    if (answer.recovery_code) say(`Your next recovery code: ${answer.recovery_code}`);
    if (link) {
        await call("POST", "/api/user/identities", { link_token: link });
        link = undefined;
    }
    await show();
}

/** A refusal may say what is lacking. */
function lacks({ status, answer }) {
    if (status === 401 && answer.second_factor) second = answer.second_factor;
    else if (status === 409 && answer.link_token) link = answer.link_token;
    else return false;
    return true;
}

async function signInWithPasskey() {
    const options = await call("POST", "/api/login/passkey/options", {});
    const passkey = await navigator.credentials.get({
        publicKey: PublicKeyCredential.parseRequestOptionsFromJSON(options.publicKey),
    });
    if (second) await enter(await call("POST", "/api/login/second", { token: second.token, passkey: passkey.toJSON() }));
    else await enter(await call("POST", "/api/login/passkey", { passkey: passkey.toJSON() }));
}

/** To the service, which sends the browser to the provider and back to `here` with a code for this page alone (PKCE). */
async function goThrough(name) {
    const [verifier, state] = [random(), random()];
    sessionStorage.setItem("flow", JSON.stringify({ verifier, state }));
    const query = new URLSearchParams({ return_to: here(), code_challenge: base64url(await sha256(verifier)), state });
    location.assign(`${service}/api/login/oidc/${name}/start?${query}`);
}

/** Back from the service. */
async function comeBack(query) {
    const { verifier, state } = JSON.parse(sessionStorage.getItem("flow") ?? "{}");
    sessionStorage.removeItem("flow");
    if (!state || query.get("state") !== state) throw new Error("This page has not asked for that.");
    if (query.has("error")) throw new Error(`The provider did not sign you in: ${query.get("error")}`);
    await enter(await call("POST", "/api/login/oidc/exchange", { code: query.get("code"), code_verifier: verifier }));
}

const here = () => `${location.origin}/`;

// ---- The account's own settings.

/** A code of the authenticator app, or a recovery code, as it was typed. */
const factor = (code) => (/^\d{6}$/.test(code) ? { code } : { recovery_code: code });

/** Where the account has an authenticator app, a passkey takes its code, too. */
async function addPasskey({ code }) {
    const options = await call("POST", "/api/user/passkeys/options", code ? factor(code) : {});
    if (options.recovery_code) say(`Your next recovery code: ${options.recovery_code}`);
    const passkey = await navigator.credentials.create({
        publicKey: PublicKeyCredential.parseCreationOptionsFromJSON(options.publicKey),
    });
    await call("POST", "/api/user/passkeys", { name: "This browser", passkey: passkey.toJSON() });
    await show();
}

async function reauthenticateWithPasskey() {
    const options = await call("POST", "/api/user/reauthenticate/passkey", {});
    const passkey = await navigator.credentials.get({
        publicKey: PublicKeyCredential.parseRequestOptionsFromJSON(options.publicKey),
    });
    await call("POST", "/api/user/reauthenticate", { passkey: passkey.toJSON() });
    await show();
}

async function addTotp() {
    const { secret, qr_svg } = await call("POST", "/api/user/totp", {});
    $("secret").textContent = secret;
    // As an image, it runs nothing.
    $("qr").src = `data:image/svg+xml,${encodeURIComponent(qr_svg)}`;
    $("pending").hidden = false;
}

async function confirmTotp({ code }) {
    const { recovery_codes } = await call("POST", "/api/user/totp/confirm", { code });
    $("pending").hidden = true;
    await show();
    $("recovery-codes").replaceChildren(...recovery_codes.map((code) => item(code)));
}

/** To the provider itself, as an app of a phone does: what comes back is an ID token for this page. */
function askProvider() {
    const [nonce, state] = [random(), random()];
    sessionStorage.setItem("asked", JSON.stringify({ nonce, state }));
    const { client_id, authorize } = provider;
    const query = { client_id, nonce, state, redirect_uri: here(), response_type: "id_token", scope: "openid email", prompt: "login" };
    location.assign(`${authorize}?${new URLSearchParams(query)}`);
}

async function linkIdentity(fragment) {
    const { nonce, state } = JSON.parse(sessionStorage.getItem("asked") ?? "{}");
    sessionStorage.removeItem("asked");
    if (!state || fragment.get("state") !== state) throw new Error("This page has not asked for that.");
    await call("POST", "/api/user/identities", { provider: provider.name, id_token: fragment.get("id_token"), nonce });
    await show();
}

// ---- What is seen.

const say = (text) => { $("said").textContent = text; };

function item(text, label, act) {
    const line = document.createElement("li");
    line.append(`${text} `);
    if (act) line.append(button(label, act));
    return line;
}

function button(label, act) {
    const made = document.createElement("button");
    made.textContent = label;
    made.onclick = doing(act);
    return made;
}

async function show() {
    if (token) await showAccount();
    $("inside").hidden = !token;
    $("outside").hidden = Boolean(token) || Boolean(second);
    $("second").hidden = Boolean(token) || !second;
    $("link").hidden = Boolean(token) || !link;
}

async function showAccount() {
    const [user, security, passkeys, identities] = await Promise.all([
        call("GET", "/api/user"),
        call("GET", "/api/user/security"),
        call("GET", "/api/user/passkeys"),
        call("GET", "/api/user/identities"),
    ]);
    $("username").textContent = user.username;
    $("fresh").textContent = security.fresh_until ? `Changes are allowed until ${security.fresh_until}.` : "";
    $("totp").textContent = security.totp.enabled
        ? `On since ${security.totp.since}, ${security.recovery_codes} recovery codes left.`
        : "Off.";
    $("passkey-code").hidden = !security.totp.enabled;
    $("add-totp").hidden = security.totp.enabled;
    $("remove-totp").hidden = !security.totp.enabled;
    const remove = (path) => async () => { await call("DELETE", path); await show(); };
    $("passkeys").replaceChildren(...passkeys.map(({ id, name }) => item(name, "Remove", remove(`/api/user/passkeys/${id}`))));
    $("identities").replaceChildren(
        ...identities.map(({ id, provider, email }) => item(`${provider} ${email}`, "Unlink", remove(`/api/user/identities/${id}`))),
    );
    $("linkable").replaceChildren(button(`Link ${provider.label}`, askProvider));
}

/** Does something, and says what went wrong. */
const doing = (act) => async (event) => {
    event?.preventDefault();
    say("");
    try {
        const form = event?.target instanceof HTMLFormElement ? event.target : undefined;
        await act(form && Object.fromEntries(new FormData(form, event.submitter)));
        form?.reset();
    } catch (error) {
        if (error.status === undefined || !lacks(error)) say(error.message);
        if (error.status === 401 && token && !second) leave();
        await show();
    }
};

function leave() {
    token = undefined;
    sessionStorage.removeItem("token");
}

$("with-password").onsubmit = doing(async ({ what, username, password }) =>
    enter(await call("POST", `/api/${what}`, { username, password })));
$("with-passkey").onclick = doing(signInWithPasskey);
$("second-passkey").onclick = doing(signInWithPasskey);
$("with-code").onsubmit = doing(async ({ code, recovery_code }) =>
    enter(await call("POST", "/api/login/second", { token: second.token, ...(code ? { code } : { recovery_code }) })));
$("logout").onclick = doing(async () => { await call("POST", "/api/logout"); leave(); await show(); });
$("reauthenticate").onsubmit = doing(async ({ password }) => {
    await call("POST", "/api/user/reauthenticate", { password });
    await show();
});
$("reauthenticate-passkey").onclick = doing(reauthenticateWithPasskey);
$("add-passkey").onsubmit = doing(addPasskey);
$("add-totp").onclick = doing(addTotp);
$("confirm-totp").onsubmit = doing(confirmTotp);
$("remove-totp").onsubmit = doing(async ({ code }) => {
    await call("DELETE", "/api/user/totp", factor(code));
    await show();
});

// What the address carries is used once, and taken out of it before anything else.
const [query, fragment] = [new URLSearchParams(location.search), new URLSearchParams(location.hash.slice(1))];
history.replaceState(null, "", here());
const offered = (await call("GET", "/api/login/providers")).filter(({ web }) => web);
$("providers").replaceChildren(...offered.map(({ name, label }) => button(`Sign in with ${label}`, () => goThrough(name))));
await doing(async () => {
    if (query.has("state")) await comeBack(query);
    else if (fragment.has("id_token")) await linkIdentity(fragment);
    else await show();
})();
document.body.dataset.ready = "yes";
