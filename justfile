# Entry point of all build, check and measurement tasks; CI runs the same recipes.
# Tools that `just tools-install` installed below target/ take precedence over those on PATH.

set shell := ["bash", "-euo", "pipefail", "-c"]

tools := justfile_directory() / "target/ci-tools"
export PATH := tools / "bin" + ":" + tools / "venv/bin" + ":" + tools / "prometheus/usr/bin" + ":" + env("PATH")
export LEADSD_TEST_NODE_MODULES := env("LEADSD_TEST_NODE_MODULES", tools / "node/node_modules")

# Folders whose mutants `just mutants` samples, and size of the sample: `just sample=3 mutants`.
mutated := "src/pipeline src/leads crates/quota crates/credentials"
sample := "150"
# Index of the sample: 0, 1, ...
shard := "0"

# Number of test runs and of busy loops beside them in `just stress`.
runs := "5"
loops := "4"

# The steps of `just ci`: cheap ones first.
steps := "fmt-check commits-check lint+tools-install deps-check deps-shear script-lint proto-lint docker-lint chart-check tidy docs-build+examples-build suite-test smoke-bench image-measure"

# List the recipes
default:
    @{{ just_executable() }} --list --unsorted

# Run all quick checks before a commit
check: fmt-check commits-check lint docs-build (unit-test "--test" "tidy")

# Run the tests that need only Rust
test *args:
    cargo test --locked {{ args }}

# Run every check that is required before a change lands; works in a fresh clone
ci:
    .ci/steps {{ steps }}

# Measure the promises of docs/PERFORMANCE.md: `just bench overhead --seconds 20`
bench *args:
    cargo bench --locked --bench load -- {{ args }}

# Measure thin wrappers in Go, Node and Python beside leadsd: `just bench-peers --seconds 20`
bench-peers *args:
    benches/peers/run {{ args }}

# Run the tests several times beside busy loops, to find tests that depend on the clock
stress *args:
    .ci/stress {{ runs }} {{ loops }} {{ args }}

# Run random faults of real processes, for twenty minutes and with a random seed: `just campaign 300 42`
campaign seconds="1200" seed="$RANDOM":
    LEADSD_TEST_CAMPAIGN_SECONDS={{ seconds }} LEADSD_TEST_SEED={{ seed }} \
      cargo test --locked --test campaign -- --ignored --nocapture

# Run the live tests against a HubSpot test account: LEADSD_LIVE_TOKEN=pat-... LEADSD_LIVE_CONTACT=101 just live
live *args:
    @: "${LEADSD_LIVE_TOKEN:?is an access token of a HubSpot test account}"
    @: "${LEADSD_LIVE_CONTACT:?is the id of a contact of that account}"
    cargo test --locked --test integration live:: -- --test-threads 1 {{ args }}

# Run mutation tests on a sample of the core; fails below 95 % caught
mutants:
    .ci/mutants {{ sample }} {{ shard }} {{ mutated }}

# Format the code
fmt:
    cargo fmt --all
    cargo fmt --manifest-path examples/rust/Cargo.toml

# Check the format of the code
fmt-check:
    cargo fmt --all --check
    cargo fmt --check --manifest-path examples/rust/Cargo.toml

# Check the subjects of commits: `area: imperative sentence`
commits-check:
    .ci/commits-test
    .ci/commits

# Run clippy with warnings as errors
lint:
    cargo clippy --locked --workspace --all-targets -- -D warnings

# Check the repository rules: layers, file length, links, language
tidy:
    cargo test --locked --quiet --test tidy

# Build the API documentation, private items included
docs-build:
    RUSTDOCFLAGS="-D warnings" cargo doc --locked --workspace --no-deps --document-private-items

# Run the unit tests of all crates
unit-test *args:
    cargo test --locked --workspace --lib --bins {{ args }}

# Check licences, sources and duplicate versions of dependencies
deps-check:
    cargo-deny --offline --locked check --deny unmatched-skip bans licenses sources

# Find dependencies that are declared and not used
deps-shear:
    cargo-shear --locked --deny-warnings

# Lint the shell scripts
script-lint:
    shellcheck --external-sources $(grep --recursive --files-with-matches '^#!.*bash' .ci) .ci/*.sh

# Lint the proto files
proto-lint:
    buf lint

# Lint the Dockerfile
docker-lint:
    hadolint Dockerfile

# Lint, render and unit-test the chart; check the manifests against the schemas of Kubernetes
chart-check:
    .ci/chart

# Build the example clients with the commands of their page
examples-build:
    .ci/examples

# Run all tests, including those against real peers; needs `just tools-install examples-build`
suite-test:
    .ci/suite

# Run the short form of the bench on the release binary
smoke-bench:
    cargo bench --locked --bench load -- --smoke

# Measure the size of the image: stripped binary, libraries, public CAs
image-measure:
    .ci/image

# Install the tools of CI below target/ (Debian packages with apt, if missing)
tools-install:
    .ci/install-tools
