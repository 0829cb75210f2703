# The recipes that people and CI share; `just` alone lists them.

default:
    @just --list

# Serve from an optimised build, with whatever config.toml stands here
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

# The tests that kill the server, at length
kill rounds="50":
    KILL_ROUNDS={{rounds}} cargo test --test api -- --nocapture every_acknowledged

# Whole servers compared: the figures of docs/performance.md and bench/results, forty minutes on an idle machine (--quick: minutes)
bench *arguments:
    PYTHONPATH=bench python3 -m compare {{arguments}}

# What the parts of a request cost by themselves
inside *filter:
    cargo bench --bench inside -- {{filter}}

# Whether the image's build has all files that it needs
image-context:
    scripts/image-context

# A client in TypeScript and one in Python, made from the running server's document and run against it
clients:
    cargo build --release
    scripts/clients target/release/authtokens

# A page of another origin and the pages of /docs in headless Chromium
browser:
    cargo build --release
    scripts/browser target/release/authtokens

# The service behind Caddy and behind nginx, as deploy/ has them
proxies:
    cargo build --release
    scripts/proxies target/release/authtokens

# What hostile bodies cost in memory and in everybody else's time
bodies:
    cargo build --release
    scripts/bodies target/release/authtokens

# A busy server's file replicated by Litestream as deploy/ has it, lost and restored
litestream:
    cargo build --release
    scripts/litestream target/release/authtokens

# What Prometheus' own tool says of the metrics of a running server (needs promtool)
promtool:
    cargo build
    scripts/promtool target/debug/authtokens
