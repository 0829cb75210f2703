// A receiver for scripts/webhooks: verifies each message with the library of Standard Webhooks for JavaScript. It prints its
// port, reads the secret from its input, and prints a line a message.
import { createServer } from "node:http";
import { createInterface } from "node:readline";
import { Webhook } from "standardwebhooks";

let webhook;
createInterface({ input: process.stdin }).once("line", (secret) => {
    webhook = new Webhook(secret);
});

const server = createServer((request, response) => {
    const parts = [];
    request.on("data", (part) => parts.push(part));
    request.on("end", () => {
        const body = Buffer.concat(parts).toString();
        let verified = true;
        try {
            webhook.verify(body, request.headers);
        } catch {
            verified = false;
        }
        console.log(JSON.stringify({ event: JSON.parse(body).data.event, message: request.headers["webhook-id"], verified }));
        response.writeHead(204).end();
    });
});
server.listen(0, "127.0.0.1", () => console.log(server.address().port));
