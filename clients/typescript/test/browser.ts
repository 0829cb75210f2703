// Compiled with the types of a browser, and not run: what the README shows fits them.
import { AuthTokens, toPasskeyOptions } from "../src/authtokens.js";

const client = new AuthTokens({
    address: "https://accounts.example.org",
    fetch: (url, init) => fetch(url, init),
    store: {
        get: () => localStorage.getItem("authtokens"),
        set: (token) => localStorage.setItem("authtokens", token),
        clear: () => localStorage.removeItem("authtokens"),
    },
});
export const other = new AuthTokens({ address: "https://accounts.example.org", fetch });

export async function addPasskey(): Promise<void> {
    const publicKey = toPasskeyOptions((await client.newPasskeyOptions()).publicKey) as PublicKeyCredentialCreationOptions;
    await client.addPasskey("My phone", await navigator.credentials.create({ publicKey }));
}

export async function loginByPasskey(signal: AbortSignal): Promise<void> {
    const publicKey = toPasskeyOptions(await client.passkeyLoginOptions()) as PublicKeyCredentialRequestOptions;
    await client.loginByPasskey(await navigator.credentials.get({ publicKey, signal }), { signal });
}
