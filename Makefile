# The commands for working on this project; `make` alone lists them.
# PG_MAJOR=15..18 selects the PostgreSQL to build and test with.

SHELL := /bin/bash
WITH_SERVER := scripts/with-server
# For tests in which no order may expire by itself.
QUIET_SERVER := $(WITH_SERVER) --postgres-setting flashsale.reconcile_interval=0
# And for tests whose purchases wait for the seller, on however slow a machine.
GROUPED_SERVER := $(QUIET_SERVER) --postgres-setting flashsale.group_wait=60s
# And for tests that make calls wait for locks.
PATIENT_SERVER := $(GROUPED_SERVER) --postgres-setting flashsale.lock_wait=60s
NO_DIRECT := $(GROUPED_SERVER) --postgres-setting flashsale.direct_access=off
WITH_ROUTER := scripts/with-router --postgres-setting flashsale.reconcile_interval=0 \
	--postgres-setting flashsale.group_wait=1min --postgres-setting flashsale.lock_wait=10min
BENCH_ROUTER := $(WITH_ROUTER) --postgres-setting max_wal_size=16GB --postgres-setting checkpoint_timeout=1h 4
# With SHARDS=2 a router before as many nodes.
SHOP_SERVER := $(if $(SHARDS),scripts/with-router,$(WITH_SERVER)) --postgres-setting flashsale.strategy=grouped \
	--postgres-setting flashsale.reconcile_interval=1s $(SHARDS)
# Programs and tests around the extension. They are always built together, so that cargo compiles
# their dependencies only once.
CLIENTS := --profile clients --workspace --exclude flashsale --exclude flashsale-core --exclude bench-client
TARGET := $(or $(CARGO_TARGET_DIR),target)
PROGRAMS := $(TARGET)/clients
PG_CONFIG ?= pg_config

.DEFAULT_GOAL := help
.PHONY: help setup build install uninstall all package image dist demo psql fuzz test test-versions test-all test-unit test-pg test-regress \
	test-isolation test-pg-upgrade test-dump test-replication both-versions test-package test-image test-install test-dist test-clients test-drivers test-libraries test-monitoring test-sharding test-docs test-shop test-storm test-asserts bench bench-sides bench-status shards simulate-shards shop shop-up screenshots fmt lint

help: ## List the targets
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/  make \1\t\2/p' $(MAKEFILE_LIST) | expand -t 24

setup: ## Install missing packages (with apt) and a private PostgreSQL; quick if nothing is missing
	@scripts/setup

build: setup ## Build the extension into the private PostgreSQL; DEBUG=1 without optimization
	@scripts/build $(if $(DEBUG),--debug)

install: ## Install the extension into the PostgreSQL of PG_CONFIG=pg_config, for real use
	@scripts/install $(PG_CONFIG)

uninstall: ## Remove what make install has installed, with the same PG_CONFIG
	@scripts/install --remove $(PG_CONFIG)

# The client of PGXN calls this before install, which builds.
all:

package: ## Make a Debian package, or an archive for a PostgreSQL from a wheel, in target/package
	@scripts/package . target/package

image: ## Make an OCI image of Debian, PostgreSQL and flashsale, or with PG_MAJOR=18 an extension image, in target/image; takes root
	@scripts/image target/image

dist: ## Make the archive of the last commit for PGXN, in target
	@scripts/dist target

demo: build ## Run a flash sale and show it: BUYERS=5000 UNITS=100 CONNECTIONS=100 STRATEGY=grouped
	@cargo build --quiet --profile bench --package storm --bin demo
	@$(WITH_SERVER) --postgres-setting flashsale.strategy=$(or $(STRATEGY),grouped) $(TARGET)/release/demo

shop: build ## Send BUYERS=5000 to examples/checkout with a faulty gateway, then compare three ledgers: UNITS, APPS, KILLS, CRASHES, SEED, FAULTS=0, MISTAKE=1; SHARDS=2 through a router
	@$(if $(SHARDS),scripts/setup sharding && $(MAKE) --no-print-directory build)
	@cargo build --quiet $(CLIENTS) --bins
	@$(SHOP_SERVER) $(PROGRAMS)/shop

shop-up: build ## Start the example shop for your browser
	@cargo build --quiet $(CLIENTS) --bins
	@UP=1 $(SHOP_SERVER) $(PROGRAMS)/shop

psql: build ## psql on a temporary server with an item on sale
	@$(WITH_SERVER) scripts/psql

SUITES ?= unit regress isolation docs pg clients libraries shop

test: setup ## Run the suites SUITES="unit regress ...", or all; ends with the line "N passed, M failed"
	@scripts/test $(SUITES)

test-versions: ## On PostgreSQL 16, 17 and 18, the suites that depend most on the version
	@scripts/test-versions "unit regress isolation docs" 16 17 18

test-all: ## All suites, the drivers and make install on PostgreSQL 15, 16, 17 and 18, the ways from 15 to the others, and the sum of their counts
	@scripts/test-versions --from-15 "pg-upgrade dump replication" "$(SUITES) drivers install" 15 16 17 18

test-unit: setup ## Unit and property tests of the decisions
	@scripts/unit-test

# The tests whose output must be the same under every strategy.
ANY_STRATEGY := 00_setup 02_items 03_purchase 04_overloads 06_keys_and_limits 07_payment \
	08_cancel_and_refund 09_reconcile 10_lookups 26_expired_holds

test-regress: build ## Every function, reason and error; T="name ..." selects, ACCEPT=1 accepts the output
	@$(GROUPED_SERVER) scripts/regress regress $(T)
	@$(if $(T)$(ACCEPT),,set -e; for strategy in optimistic atomic grouped; do \
		echo "--- strategy $$strategy"; \
		$(GROUPED_SERVER) --postgres-setting "flashsale.strategy=$$strategy" \
			scripts/regress regress $(ANY_STRATEGY); done; \
		echo "--- without direct table access"; \
		$(NO_DIRECT) scripts/regress regress)

test-isolation: build ## Interleavings of sessions; T="name ..." selects, ACCEPT=1 accepts the output
	@$(QUIET_SERVER) scripts/regress isolation $(T)
	@$(if $(T)$(ACCEPT),,$(NO_DIRECT) scripts/regress isolation)

test-docs: build ## The examples in docs/
	@$(GROUPED_SERVER) tests/docs/run

test-pg-upgrade: both-versions ## Upgrade a server with orders from PostgreSQL 15 to PG_MAJOR=16..18 with pg_upgrade, to 17 also from 16
	@scripts/test-pg-upgrade
	@if [ "$(PG_MAJOR)" = 17 ]; then \
		$(MAKE) --no-print-directory build PG_MAJOR=16 && FROM_MAJOR=16 scripts/test-pg-upgrade; fi

test-dump: both-versions ## Take a sale from PostgreSQL 15 to PG_MAJOR=16..18 with a dump, and back with another
	@scripts/test-dump

test-replication: both-versions ## Take a sale from PostgreSQL 15 to PG_MAJOR=16..18 by logical replication, and copy its orders
	@scripts/test-replication

both-versions:
	@case "$(PG_MAJOR)" in 16 | 17 | 18) ;; *) echo "flashsale: say to which version: PG_MAJOR=16" >&2; exit 1;; esac
	@$(MAKE) --no-print-directory build PG_MAJOR=15 DEBUG=
	@$(MAKE) --no-print-directory build PG_MAJOR=$(PG_MAJOR)

test-package: ## Install, use, update and remove the package in a Debian without Rust; takes root
	@scripts/test-package

test-image: ## Make the image, start it, sell, stop it and start it again; takes root
	@scripts/test-image

test-install: ## make install into a PostgreSQL in another folder, with nothing but what that takes; takes root
	@scripts/test-install

test-dist: ## Validate META.json, and build and test the archive for PGXN in an empty folder
	@scripts/test-dist

fuzz: ## The property tests of the decisions with CASES=20000 each, without PostgreSQL
	@PROPTEST_CASES=$(or $(CASES),20000) cargo test --package flashsale-core

test-pg: setup ## Tests inside a server: cargo pgrx test
	@scripts/pg-test

test-clients: build ## Crowds of real clients, privileges, dump and restore, PgBouncer
	@cargo build --quiet $(CLIENTS) --bins --tests
	@cargo test $(CLIENTS) --lib --bins
	@$(WITH_SERVER) cargo test $(CLIENTS) --test clients

test-libraries: build ## The client libraries in clients/, direct and through PgBouncer
	@scripts/build-clients
	@cargo build --quiet $(CLIENTS) --bins --tests
	@CLIENTS="$(CLIENTS)" $(PATIENT_SERVER) scripts/with-pooler scripts/test-libraries

test-drivers: build ## psql, tokio-postgres, psycopg, pg and JDBC, direct and through PgBouncer; PostGraphile over docs/api-schema.sql
	@scripts/setup drivers
	@cargo build --quiet $(CLIENTS) --bins
	@$(QUIET_SERVER) --postgres-setting listen_addresses=127.0.0.1 scripts/with-pooler scripts/test-drivers $(PROGRAMS)

test-shop: build ## examples/checkout: its answers, its pages in a browser, and sales with failures; SHARDS=2: these through a router
	@scripts/setup $(if $(SHARDS),sharding && $(MAKE) --no-print-directory build,shop)
	@cargo build --quiet $(CLIENTS) --bins --tests
	@$(SHOP_SERVER) cargo test $(CLIENTS) $(if $(SHARDS),,--test contract --test pages) --test disaster -- --nocapture

screenshots: build ## Take the pictures of the README anew, in docs
	@scripts/setup shop
	@cargo build --quiet $(CLIENTS) --bins --tests
	@CHART_S=40 $(SHOP_SERVER) cargo test $(CLIENTS) --test pages -- pictures
	@cp target/screenshots/sale-*.png docs

test-monitoring: build ## examples/monitoring with Prometheus: each query of the dashboard is run, each alert is made true
	@scripts/setup monitoring
	@$(WITH_SERVER) scripts/test-monitoring

test-sharding: ## examples/sharding: four servers and a router before them, which needs PL/Proxy; then some are killed in mid-sale
	@scripts/setup sharding
	@$(MAKE) --no-print-directory build
	@$(WITH_ROUTER) 4 scripts/test-sharding
	@$(WITH_ROUTER) 4 scripts/test-sharding-losses
	@$(WITH_ROUTER) 4 scripts/test-sharding-growth
	@$(WITH_ROUTER) --postgres-setting flashsale.lock_wait=200ms 4 scripts/test-sharding-moves

# Not part of `make test`, in which test-clients runs the same storms.
test-storm: build ## Buyers under all strategies at once and crashes, then amcheck of all tables and indexes
	@cargo build --quiet $(CLIENTS) --bins --tests
	@AMCHECK=1 $(WITH_SERVER) cargo test $(CLIENTS) --test clients -- mix:: crash::
	@$(WITH_SERVER) --postgres-setting flashsale.strategy=grouped \
		bash -c '$(PROGRAMS)/demo && scripts/amcheck'

test-asserts: ## The suites on a PostgreSQL built with assertions: SRC=folder of its source
	@scripts/test-asserts $(SRC)

bench: setup ## Figures against the peers, a table and a plot: QUICK=1 shortens, ONLY=hot,rush selects, SAVE=1 saves
	@scripts/bench $(if $(FLUSH_US),--flush-us $(FLUSH_US)) $(if $(QUICK),--quick) $(if $(ONLY),--only $(ONLY)) \
		$(if $(SAVE),--save benches/results/$(shell date -u +%F)$(if $(FLUSH_US),-flush-$(FLUSH_US)-us))

bench-sides: setup ## Builds compared under the same load, in turn: SIDES="15 16 17 18", or commits; ONLY=hot, ROUNDS=5
	@scripts/bench-sides $(if $(ONLY),--only $(ONLY)) $(if $(ROUNDS),--rounds $(ROUNDS)) $(SIDES)

shards: ## examples/sharding under load: 1, 2 and 4 nodes, through the router and directly; then all is sold, and counted: ROUNDS=3
	@scripts/setup sharding
	@$(MAKE) --no-print-directory build
	@$(BENCH_ROUTER) python3 -B benches/shards.py $(if $(ROUNDS),--rounds $(ROUNDS))

simulate-shards: ## What several nodes and routers sell, predicted from the processor time of a call, checked with 1, 2 and 4 nodes: ROUNDS=3
	@scripts/setup sharding
	@$(MAKE) --no-print-directory build
	@$(BENCH_ROUTER) python3 -B benches/simulate.py $(if $(ROUNDS),--rounds $(ROUNDS))

bench-status: build ## How long an item's status, the operator page's look and audits take with ORDERS=1000000
	@$(QUIET_SERVER) scripts/bench-status

fmt: ## Format the code
	@cargo fmt --all

lint: setup ## Check format, code, SQL, licences and scripts, warnings denied
	@scripts/lint
