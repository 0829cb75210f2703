# The recipes that people and CI share; `just` alone lists them.

default:
    @just --list

# Serve from an optimised build, with the config.toml of this folder if there is one
serve *arguments:
    cargo run --release -- {{arguments}}

# The tests
test *filter:
    cargo test {{filter}}

# Everything that CI runs
ci:
    .ci/run

# Formatting, lints and documentation
lint:
    cargo fmt --all -- --check
    cargo clippy --locked --all-targets -- -D warnings
    RUSTDOCFLAGS='-D warnings' cargo doc --locked --no-deps --document-private-items

# Licences, bans and sources of the dependencies (needs cargo-deny)
deny:
    cargo deny --locked check licenses bans sources

# The tests that kill the server, many rounds of them
kill rounds="50":
    KILL_ROUNDS={{rounds}} cargo test --test api -- --nocapture every_acknowledged

# Whole servers compared: the figures of docs/performance.md and bench/results, forty minutes on an idle machine (--quick: minutes)
bench *arguments:
    PYTHONPATH=bench python3 -m compare {{arguments}}

# Benchmark the parts of a request
inside *filter:
    cargo bench --bench inside -- {{filter}}

# Check that the image's build has all files that it needs, and do its steps one by one (as root)
image-context:
    scripts/image-context
    cargo build
    scripts/image-context --steps target/debug/authtokens

# Make a release: the static binary, the Debian package, checksums and the SBOM (CONTRIBUTING.md says what it needs)
release:
    scripts/release

# Install, upgrade, remove and purge the Debian package of `just release` in a clean system (as root)
package:
    scripts/package

# A client in TypeScript and one in Python, made from the running server's document and run against it
clients:
    cargo build --release
    scripts/clients target/release/authtokens

# A page of another origin and the pages of /docs in headless Chromium
browser:
    cargo build --release
    scripts/browser target/release/authtokens

# An example of a sign-in page in headless Chromium: passkey, authenticator app and a real OpenID provider
identity:
    cargo build --release
    scripts/identity target/release/authtokens

# The service behind Caddy and behind nginx, as deploy/ has them
proxies:
    cargo build --release
    scripts/proxies target/release/authtokens

# Go every way that a mail opens, by a real mail server over TLS and after STARTTLS, and read each by Python's strict parser
mail:
    cargo build --release
    scripts/mail target/release/authtokens

# The pages behind the links of mails in headless Chromium, and what WCAG forbids there
pages *folder:
    cargo build --release
    scripts/pages target/release/authtokens {{folder}}

# Whether a code of an authenticator app counts once, and what it costs a login
second-factor *arguments:
    cargo build --release
    scripts/second-factor {{arguments}}

# Measure what hostile bodies cost in memory and in everybody else's latency
bodies:
    cargo build --release
    scripts/bodies target/release/authtokens

# Replicate a busy server's file by Litestream as deploy/ has it, lose it and restore it
litestream:
    cargo build --release
    scripts/litestream target/release/authtokens

# Three databases with Patroni and two copies of the service in namespaces: break each under load and count what is lost
cluster *arguments:
    cargo build --release
    scripts/cluster {{arguments}}

# What PostgreSQL in the place of the file costs, beside SQLite and pgbench
cluster-bench *arguments:
    cargo build --release
    scripts/cluster-bench {{arguments}}

# Move a Django site that is in use here and back, as docs/moving-django.md says (needs nginx; pip fetches Django)
moving *arguments:
    cargo build --release
    scripts/moving {{arguments}}

# Import sources that are broken in every way: never a panic, a hang, half an account
import-mutations *arguments:
    cargo build --release
    scripts/import-mutations {{arguments}}

# What an import of 100,000 accounts takes, and what a server beside it notices (pip fetches Django)
import-bench *arguments:
    cargo build --release
    scripts/import-bench {{arguments}}

# Kill the service between a mail's cause and its delivery, and count what is sent twice and what is lost
mail-kill rounds="50":
    cargo build --release
    scripts/mail-kill --rounds {{rounds}} target/release/authtokens

# Send events to receivers of all kinds, kill the service meanwhile, and count what arrives twice and what never
webhooks kills="50":
    cargo build --release
    scripts/webhooks --kills {{kills}} target/release/authtokens

# Compare forgot-password for known and unknown addresses, and other calls with and without a mail server that hangs
mail-flood:
    cargo build --release
    scripts/mail-flood target/release/authtokens

# Check the metrics of a running server by Prometheus' own tool (needs promtool)
promtool:
    cargo build
    scripts/promtool target/debug/authtokens
