// Takes the token behind the # of a mail's link into the form, and out of the address bar and the history. Nothing is sent
// until a button is pressed. Without this script the pages work by a box for the link.
"use strict";

const all = (selector) => document.querySelectorAll(selector);

function takeLink() {
    const token = location.hash.slice(1);
    if (token === "") return;
    history.replaceState(null, "", location.pathname);
    if (!/^[0-9a-f]{40}$/.test(token)) return;
    const form = document.querySelector("form[data-takes-link]");
    const app = document.querySelector("a[data-app-link]");
    if (!form && !app) return;
    if (form) form.elements.proof.value = token;
    if (app) app.href = `${app.dataset.appLink}#${token}`;
    for (const element of all("[data-without-link]")) element.hidden = true;
    for (const element of all("[data-with-link]")) element.hidden = false;
    form?.elements.new_password?.focus();
}

for (const button of all("button[aria-controls]")) {
    const input = document.getElementById(button.getAttribute("aria-controls"));
    button.hidden = false;
    const show = (isShown) => {
        input.type = isShown ? "text" : "password";
        button.setAttribute("aria-pressed", String(isShown));
        button.textContent = isShown ? button.dataset.hide : button.dataset.show;
    };
    button.addEventListener("click", () => show(input.type === "password"));
    // A browser remembers what is typed into a text field.
    input.form.addEventListener("submit", () => show(false));
}

takeLink();
addEventListener("hashchange", takeLink);
