// A real OpenID provider on this machine, for scripts/identity. Its own pages ask for a name and take any password.
import { createServer } from "node:http";
import Provider from "oidc-provider";

/** Starts one that knows the service, for pages, and the example page, for ID tokens of its own. */
export async function startProvider({ callback, page }) {
    const listener = createServer((request, response) => handle(request, response));
    await new Promise((resolve) => listener.listen(0, "127.0.0.1", resolve));
    const issuer = `http://127.0.0.1:${listener.address().port}`;
    const provider = new Provider(issuer, {
        clients: [
            { client_id: "service", client_secret: "a secret of the trial", redirect_uris: [callback] },
            {
                client_id: "page",
                // Only such a client may come back to a page of this machine (OpenID Connect Registration 2).
                application_type: "native",
                token_endpoint_auth_method: "none",
                response_types: ["id_token"],
                grant_types: ["implicit"],
                redirect_uris: [page],
            },
        ],
        claims: { openid: ["sub"], email: ["email", "email_verified"] },
        // An ID token of the code flow has the address too, as those of Google and Apple have.
        conformIdTokenClaims: false,
        cookies: { keys: ["of the trial"] },
        findAccount: (_, sub) => ({
            accountId: sub,
            claims: () => ({ sub, email: `${sub}@example.org`, email_verified: true }),
        }),
    });
    const handle = provider.callback();
    return { issuer, stop: () => listener.close() };
}
