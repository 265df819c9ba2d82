# HBC: `make demo` shows it, `make test` proves it, `make up` runs it.

HBC := target/debug/hbc
UP_DIR ?= .hbc

.DEFAULT_GOAL := help
.PHONY: help deps build demo up test lint fmt openapi clean-up

help: ## Show this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-10s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

deps: ## Install or build what is missing (Kubo, PostgreSQL, API tools), and say what was done
	@sh deploy/dependencies.sh

build: ## Build the one binary
	@cargo build --locked --workspace --bin hbc

demo: deps build ## Play the whole story on a real synthetic patient, in a fresh folder
	@$(HBC) demo

up: deps build ## Run a development stack in .hbc until Ctrl-C; prints addresses and logins
	@test -e $(UP_DIR)/hbc.toml || $(HBC) init --dev $(UP_DIR)
	@$(HBC) up $(UP_DIR)

test: deps ## Run every test: unit, property, contract, store, end to end
	@sh tests/run.sh

lint: ## Check format and lints
	@cargo fmt --all --check
	@cargo clippy --locked --workspace --all-targets -- -D warnings

fmt: ## Format all code
	@cargo fmt --all

openapi: build ## Write openapi/*.json anew from the route tables
	@$(HBC) openapi

clean-up: ## Remove the development stack's folder
	@rm -rf $(UP_DIR)
