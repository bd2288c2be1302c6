# Thin names: what each does stands in scripts/ and in xtask/.
.DEFAULT_GOAL := help
.PHONY: help run test kills faults lint dashboard package

help: ## shows this
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "make %-10s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

run: ## builds all and starts aggregator and agent on this host (ARGS="--dir DIR --listen ADDR:PORT --no-agent")
	@scripts/need run
	@scripts/dashboard --optional
	cargo build --profile fast --locked -p keyvigil -p keyvigil-agent -p keyvigil-aggregator
	@exec "$${CARGO_TARGET_DIR:-target}/fast/keyvigil" up $(ARGS)

test: ## installs what tests need and runs all of them
	@scripts/need test
	@scripts/test

kills: ## kills the store 50,000 times in a simulated file layer, and a running aggregator 200 times
	cargo build --workspace --locked
	KEYVIGIL_KILLS=50000 cargo test --locked -p keyvigil-tests --test kills -- --nocapture
	KEYVIGIL_KILL9_CYCLES=200 cargo test --locked -p keyvigil-tests --test kill9 -- --nocapture

faults: ## every experiment of the fault matrix in full, how long that took, and 5,000 simulated worlds nobody has seen
	@scripts/need test
	cargo build --workspace --locked
	@began=$$(date +%s); KEYVIGIL_FAULTS=full cargo test --locked -p keyvigil-tests --test faults -- --nocapture; code=$$?; \
	echo "faults: $$((($$(date +%s) - began) / 60)) min in all"; exit $$code
	KEYVIGIL_SEEDS=5000 cargo test --locked -p keyvigil-tests --test simulation -- --nocapture

lint: ## formatting, lints, the project's own rules, and where it is installed cargo-deny
	cargo fmt --all --check
	cargo clippy --workspace --all-targets --locked -- -D warnings
	cargo xtask tidy
	@if command -v cargo-deny >/dev/null; then cargo deny --locked check bans licenses sources; else echo "lint: cargo-deny is not installed (cargo install cargo-deny --locked): skipped"; fi

dashboard: ## builds the dashboard that the aggregator embeds
	@scripts/dashboard

# Two builds, so that the agent gets no feature that only the aggregator asks for, and is made small.
package: ## builds target/debian/*.deb
	@scripts/need package
	@scripts/dashboard
	@command -v cargo-deb >/dev/null || cargo install cargo-deb --version '^3.8' --locked
	cargo build --profile agent --locked -p keyvigil-agent
	cargo deb --no-build --locked --profile agent -p keyvigil-agent
	cargo build --release --locked -p keyvigil-aggregator -p keyvigil
	cargo deb --no-build --locked -p keyvigil-aggregator
