# Short names for what one does here. `just` alone lists them.

# List the recipes.
default:
    @just --list

# A whole node, a surge, a burst and the way back, in about a minute.
demo *ARGS:
    cargo run --release -- demo {{ ARGS }}

# A node with the quickstart profile.
run *ARGS:
    cargo run --release -- run {{ ARGS }}

# Everything that CI runs. Lanes: just test --with faults
test *ARGS:
    tests/run {{ ARGS }}

# The tests of one test binary or with a name, as in `just only tidy`.
only FILTER:
    cargo nextest run --workspace -E 'binary({{ FILTER }}) | test({{ FILTER }})'

# The figures of an area against their targets, as in `just bench node`.
bench AREA="node":
    benches/run {{ AREA }}

# Record the demo as docs/demo.svg, the picture in the README.
record *ARGS:
    cargo build --release
    docs/record-demo target/release/tidegate {{ ARGS }}

# Format.
fmt:
    cargo fmt --all

# Lints as CI sees them.
lint:
    cargo fmt --all --check
    cargo clippy --workspace --all-targets --locked -- -D warnings

# What a running node says on MQTT, decoded, a line each.
watch *ARGS:
    cargo run --release -- watch {{ ARGS }}

# How the running node is, in five lines.
status *ARGS:
    cargo run --release -- status {{ ARGS }}

# The article's Flask program, scaled here and burst; python3 needs the packages of its requirements.txt.
flask:
    cd examples/flask && cargo run --release -- run -c tidegate.toml

# Crates in the default build; the limit is 320.
crates:
    cargo tree --locked -e normal,build --prefix none | awk '{ print $1, $2 }' | sort -u | wc -l

# The program's documentation.
doc:
    cargo doc --workspace --no-deps --document-private-items
