# One front door for people and CI. `make` alone lists the targets.
SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help
.DELETE_ON_ERROR:

SCALE ?= default
RATE ?= 50
MINUTES ?= 60
PYTEST_ARGS ?=
DBT_PROJECT := dbt/lakehouse

VENVS := .venvs
UV := $(VENVS)/uv/bin/uv
AIRFLOW := $(VENVS)/airflow/bin
DBT := $(VENVS)/dbt/bin
EMBEDDED := $(VENVS)/embedded/bin

# An interpreter comes from this machine (.ci/find-python), and never from UV_PYTHON, which beats an active venv.
export UV_PYTHON_DOWNLOADS := never
unexport UV_PYTHON VIRTUAL_ENV PYTHONPATH
# Airflow's tools start without a metadata database of their own in the home folder.
export AIRFLOW__CORE__LOAD_EXAMPLES := False
export AIRFLOW__COSMOS__ENABLE_TELEMETRY := False
export DO_NOT_TRACK := 1
# Two halves of the tests write into one pipe: each line as soon as it is whole.
export PYTHONUNBUFFERED := 1

INSTALLED := $(foreach name,airflow dbt embedded superset,$(VENVS)/$(name)/.installed)
# Other people's clients and test suites, which only tests use.
TESTS_INSTALLED := $(foreach name,clients connectors/source-faker,$(VENVS)/$(name)/.installed)
MANIFEST := $(DBT_PROJECT)/target/manifest.json
# All but what dbt writes itself.
DBT_FILES := $(shell find $(DBT_PROJECT) -type f \( -name '*.sql' -o -name '*.yml' -o -name '*.yaml' -o -name '*.csv' -o -name '*.md' \) \
	-not -path '*/target/*' -not -path '*/logs/*' -not -path '*/dbt_packages/*' 2>/dev/null)

# Every folder of tests/ runs in Airflow's venv but those that drive the embedded servers; e2e and faults start a whole
# platform and speak to Airflow over its REST API.
PLATFORM_TESTS := $(wildcard tests/e2e tests/faults)
EMBEDDED_TESTS := $(wildcard tests/embedded tests/contracts tests/dbt tests/model tests/serving)
# Most of these wait for servers, so the SQL server's run beside the others.
SQL_TESTS := $(wildcard tests/embedded/sql tests/contracts/test_flight_clients.py tests/contracts/test_conformance.py)
LANE_TESTS := $(wildcard tests/dbt tests/model tests/serving)
OTHER_TESTS := $(filter-out tests/contracts/test_airbyte.py $(SQL_TESTS),\
	$(wildcard tests/embedded/test_*.py tests/embedded/demo tests/embedded/replication tests/contracts/test_*.py))
# tests/conformance runs in dbt's venv, and tests/contracts starts it with a server to run against.
AIRFLOW_TESTS := $(filter-out $(PLATFORM_TESTS) $(EMBEDDED_TESTS) tests/conformance tests/__pycache__,$(patsubst %/,%,$(wildcard tests/*/)))
# Other people's Airbyte clients are installed beside Airflow only.
AIRFLOW_TESTS += $(wildcard tests/contracts/test_airbyte.py)

##@ Use
.PHONY: help
help: ## List the targets
	@awk 'BEGIN { FS = ":.*## " } \
		/^##@/ { printf "\n%s\n", substr($$0, 5) } \
		/^[a-z-]+:.*## / { gsub(/\$$\$$/, "$$"); printf "  make %-14s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

.PHONY: demo
demo: setup ## Set up, start everything, run the batch lane once on real data, show the result (SCALE=tiny|default|full)
	@$(EMBEDDED)/python -m embedded.demo.run --scale $(SCALE)

.PHONY: up
up: setup ## Start the embedded platform and Airflow; data of the last time is kept
	@$(EMBEDDED)/python -m embedded up

.PHONY: status
status: $(VENVS)/embedded/.installed ## Show what runs, where, and how to sign in
	@$(EMBEDDED)/python -m embedded status

.PHONY: logs
logs: $(VENVS)/embedded/.installed ## Show the newest log lines of every service (SERVICE=name for one)
	@$(EMBEDDED)/python -m embedded logs $(SERVICE)

.PHONY: traffic
traffic: $(VENVS)/embedded/.installed ## Change the running platform's source as its tills do, RATE changes a second, until ^C
	@$(EMBEDDED)/python -m embedded demo-traffic --rate $(RATE)

.PHONY: env
env: $(VENVS)/embedded/.installed ## Print addresses and credentials for a shell: eval "$$(make -s env)" (NAME=variable for one value)
	@$(EMBEDDED)/python -m embedded env $(NAME)

.PHONY: airflow
airflow: $(VENVS)/embedded/.installed ## Run any airflow command on the platform's Airflow: make airflow ARGS="backfill create ..."
	@$(EMBEDDED)/python -m embedded.airflow_command $(ARGS)

.PHONY: export-dashboards
export-dashboards: setup ## Take changes made in Superset's pages into include/platform/superset
	@eval "$$($(EMBEDDED)/python -m embedded env)"; PYTHONPATH=.:plugins $(AIRFLOW)/python -m include.reconcile.superset.export

.PHONY: browser
browser: $(VENVS)/browser/.installed ## Install what draws dashboards as PDF and PNG (Playwright; the browser is the machine's Chromium)

.PHONY: plan apply drift
plan: $(VENVS)/embedded/.installed ## Show what differs from include/platform and include/pipelines, change nothing (ARGS="--service dremio")
apply: $(VENVS)/embedded/.installed ## Make the platform what is declared (ARGS="--prune")
drift: $(VENVS)/embedded/.installed ## Fail where somebody changed the platform by hand
plan apply drift:
	@$(EMBEDDED)/python -m embedded.reconcile_command $@ $(ARGS)

.PHONY: down
down: $(VENVS)/embedded/.installed ## Stop everything; data is kept
	@$(EMBEDDED)/python -m embedded down

.PHONY: reset
reset: $(VENVS)/embedded/.installed ## Ask, then stop everything and delete the data folder (YES=1: do not ask)
	@$(EMBEDDED)/python -m embedded reset $(if $(YES),--yes)

##@ Develop
.PHONY: setup
setup: $(INSTALLED) $(if $(DBT_FILES),$(MANIFEST)) ## Make the venvs and the dbt manifest; does only what is missing

.PHONY: test
test: test-fast test-platform ## Run all tests but the long fault tests

.PHONY: test-fast
test-fast: setup $(TESTS_INSTALLED) ## Run the tests that need no running platform, four parts side by side
	@$(MAKE) --no-print-directory --jobs 4 --keep-going --output-sync=line test-sql test-embedded test-lanes test-airflow

.PHONY: test-sql
test-sql: setup $(TESTS_INSTALLED) ## Run the tests of the SQL server
	@$(EMBEDDED)/python -m pytest $(SQL_TESTS) -m "not faults" $(PYTEST_ARGS)

.PHONY: test-embedded
test-embedded: setup $(TESTS_INSTALLED) ## Run the tests of the other embedded servers
	@$(EMBEDDED)/python -m pytest $(OTHER_TESTS) -m "not faults" $(PYTEST_ARGS)

.PHONY: test-lanes
test-lanes: setup $(TESTS_INSTALLED) ## Run the tests of the dbt project and of the serving rule
	@$(EMBEDDED)/python -m pytest $(LANE_TESTS) -m "not faults" $(PYTEST_ARGS)

.PHONY: test-airflow
test-airflow: setup $(TESTS_INSTALLED) ## Run the tests of the DAGs, include and the providers
	$(if $(AIRFLOW_TESTS),@$(AIRFLOW)/python -m pytest $(AIRFLOW_TESTS) -m "not faults" $(PYTEST_ARGS))

.PHONY: test-platform
test-platform: setup $(VENVS)/browser/.installed ## Run the end-to-end tests; they start a platform of their own
	$(if $(PLATFORM_TESTS),$(EMBEDDED)/python -m pytest $(PLATFORM_TESTS) -m "not faults" $(PYTEST_ARGS))

.PHONY: test-faults
test-faults: setup $(TESTS_INSTALLED) $(foreach name,browser conformance,$(VENVS)/$(name)/.installed) ## Run the long tests: kill every server in the middle of its work, bad data, whole suites
	$(if $(EMBEDDED_TESTS),$(EMBEDDED)/python -m pytest $(EMBEDDED_TESTS) -m faults $(PYTEST_ARGS))
	$(if $(AIRFLOW_TESTS),$(AIRFLOW)/python -m pytest $(AIRFLOW_TESTS) -m faults $(PYTEST_ARGS) || [ $$? = 5 ])
	$(EMBEDDED)/python -m pytest $(PLATFORM_TESTS) -m faults $(PYTEST_ARGS)

.PHONY: soak
soak: setup ## Random histories against the real lanes, with kills (SEEDS=200, from FIRST=1000)
	LAKEHOUSE_SERVING_SEEDS=$(or $(SEEDS),200) LAKEHOUSE_SERVING_FIRST_SEED=$(or $(FIRST),1000) \
		$(EMBEDDED)/python -m pytest tests/serving/test_histories.py tests/serving/test_capture.py \
			-k the_view_is_the_source $(PYTEST_ARGS)

.PHONY: soak-sql
soak-sql: $(VENVS)/embedded/.installed ## Mixed load on the SQL server with kill -9 every minute (MINUTES=60)
	SOAK_MINUTES=$(MINUTES) $(EMBEDDED)/python -m pytest tests/embedded/sql/test_soak.py -s $(PYTEST_ARGS)

.PHONY: soak-outage
soak-outage: setup ## A day of a silent source's syncs, and a reader that is away for an hour under traffic
	LAKEHOUSE_SILENT_SYNCS=1440 LAKEHOUSE_AWAY_SECONDS=3600 \
		$(EMBEDDED)/python -m pytest tests/embedded/replication/test_outage.py -s $(PYTEST_ARGS)

.PHONY: soak-backfill
soak-backfill: setup ## Backfill DAYS past days (31) twice through Airflow: gold must stay as it is
	LAKEHOUSE_TEST_BACKFILL_DAYS=$(or $(DAYS),31) $(EMBEDDED)/python -m pytest tests/e2e/test_batch.py \
		-m faults -k a_backfill_twice $(PYTEST_ARGS)

.PHONY: lint
lint: setup ## Check format, types, import directions, SQL, shell, Dockerfile; changes nothing
	@$(AIRFLOW)/prek run --all-files

.PHONY: fix
fix: setup ## Format and mend what can be mended without a decision
	@$(AIRFLOW)/ruff check --fix --quiet . || true
	@$(AIRFLOW)/ruff format .
	$(if $(DBT_FILES),@$(AIRFLOW)/sqlfluff fix --quiet $(DBT_PROJECT) || true)

.PHONY: verify
verify: lock-check lint test test-faults ## All that CI runs, and the long fault tests

.PHONY: docs
docs: setup ## Write the generated pages (docs/dags.md, docs/policy.md, docs/sql-server.md)
	@$(AIRFLOW)/python -m docs.generate
	@$(EMBEDDED)/python -m docs.sql_server
	@$(AIRFLOW)/python -m docs.policy

##@ Connectors
# Airbyte-protocol connectors of PyPI: a venv each, made from the connector's own pinned, hashed file in LOCKED.
LOCKED := embedded/replication/protocol_connectors/locked
.PHONY: connector
connector: $(foreach name,$(NAME),$(VENVS)/connectors/$(name)/.installed) ## Install Airbyte connectors for the replication server: make connector NAME="source-faker source-s3"
	$(if $(NAME),,@echo "Which? NAME= one or more of: $(basename $(notdir $(wildcard $(LOCKED)/*.txt)))" >&2; exit 1)

CONNECTOR ?= source-faker
CONFIG ?= {"count": 1000, "seed": 1}
.PHONY: new-pipeline
new-pipeline: setup $(VENVS)/connectors/$(CONNECTOR)/.installed ## Write a pipeline that works at once: make new-pipeline NAME=marketing [CONNECTOR=source-faker CONFIG='{...}']
	$(if $(NAME),,@echo "Which? NAME= its name, such as marketing" >&2; exit 1)
	@$(EMBEDDED)/python -m embedded.scaffold "$(NAME)" --connector $(CONNECTOR) --config '$(CONFIG)'
	@$(MAKE) --no-print-directory setup docs
	@echo "Next: make apply, then switch $(NAME)_batch on in Airflow: docs/new-pipeline.md"

.PHONY: connector-lock
connector-lock: $(VENVS)/embedded/.installed ## Pin a connector of PyPI with all its hashes: make connector-lock PACKAGE=airbyte-source-faker==7.2.1 [DEFINITION_ID=uuid]
	@$(EMBEDDED)/python -m embedded.replication.protocol_connectors.lock "$(PACKAGE)" $(DEFINITION_ID) --uv $(UV)

# `.installed` is the file that was installed: the server refuses a venv made from another one.
$(VENVS)/connectors/%/.installed: $(LOCKED)/%.txt | $(VENVS)/embedded/.installed
	@[ -x $(VENVS)/connectors/$*/bin/python ] || $(UV) venv --quiet --clear --python $(VENVS)/uv/bin/python $(VENVS)/connectors/$*
	@.ci/with-progress "Installing $*: $$(grep -c '==' $<) packages" \
		$(UV) pip sync --python $(VENVS)/connectors/$*/bin/python --require-hashes $<
	@.ci/with-progress "Asking $* what it needs" \
		$(EMBEDDED)/python -m embedded.replication.protocol_connectors.describe $(VENVS)/connectors/$*
	@cp $< $@

##@ Dependencies
# One lock, one export a venv. The exports are what gets installed; uv.lock is what people change.
EXPORTS := requirements.txt dev-requirements.txt dbt-requirements.txt embedded-requirements.txt conformance-requirements.txt \
	browser-requirements.txt
requirements.txt_OPTIONS := --no-dev --no-emit-project
dev-requirements.txt_OPTIONS := --only-group dev
dbt-requirements.txt_OPTIONS := --only-group dbt
embedded-requirements.txt_OPTIONS := --only-group embedded
conformance-requirements.txt_OPTIONS := --only-group conformance
browser-requirements.txt_OPTIONS := --only-group browser
# Venvs whose packages contradict the rest of the lock, or their own pins.
COMPILED := clients-requirements superset-requirements
COMPILE = $(UV_HERE) pip compile --quiet --generate-hashes --universal --python-version 3.11 --custom-compile-command "make lock"
UV_HERE = UV_PYTHON=$(VENVS)/uv/bin/python $(UV)

.PHONY: lock
lock: $(VENVS)/uv/.installed ## Resolve pyproject.toml into uv.lock and the requirements files
	@$(UV_HERE) lock
	@$(foreach file,$(EXPORTS),$(UV_HERE) export --quiet $($(file)_OPTIONS) --format requirements-txt -o $(file);)
	@$(foreach name,$(COMPILED),$(COMPILE) --override $(name).in $(name).in -o $(name).txt;)

.PHONY: lock-check
lock-check: $(VENVS)/uv/.installed ## Fail if uv.lock or a requirements file is stale
	@$(UV_HERE) lock --check --quiet || { echo "uv.lock is stale: make lock" >&2; exit 1; }
	@$(foreach file,$(EXPORTS),$(UV_HERE) export --quiet --frozen --no-header $($(file)_OPTIONS) --format requirements-txt \
		| diff --brief <(grep -v '^#' $(file)) - >/dev/null || { echo "$(file) is stale: make lock" >&2; exit 1; };)
	@fresh=$$(mktemp -d); trap 'rm -rf "$$fresh"' EXIT; $(foreach name,$(COMPILED),cp $(name).txt "$$fresh/$(name).txt"; \
		$(COMPILE) --override $(name).in $(name).in -o "$$fresh/$(name).txt" >/dev/null; \
		diff --brief <(grep -v '^ *#' $(name).txt) <(grep -v '^ *#' "$$fresh/$(name).txt") >/dev/null \
			|| { echo "$(name).txt is stale: make lock" >&2; exit 1; };)

$(VENVS)/uv/.installed: uv-requirements.txt
	@python=$$(.ci/find-python); echo "Python: $$python ($$("$$python" -V))"; \
		"$$python" -m venv --clear $(VENVS)/uv
	@.ci/with-progress "Installing uv" $(VENVS)/uv/bin/python -m pip --disable-pip-version-check install \
		--require-hashes -r uv-requirements.txt
	@touch $@

# $(call install,venv,requirements files): exactly these packages, each checked by hash. Byte code is compiled here, once,
# and not by each of Airflow's processes again where PYTHONDONTWRITEBYTECODE is set.
define install
	@[ -x $(VENVS)/$(1)/bin/python ] || $(UV) venv --quiet --clear --python $(VENVS)/uv/bin/python $(VENVS)/$(1)
	@.ci/with-progress "Installing $(1): $$(cat $(2) | grep -c '==') packages" \
		$(UV) pip sync --python $(VENVS)/$(1)/bin/python --require-hashes --compile-bytecode $(2)
endef

$(VENVS)/airflow/.installed: requirements.txt dev-requirements.txt pyproject.toml $(VENVS)/uv/.installed
	$(call install,airflow,requirements.txt dev-requirements.txt)
	@$(UV) pip install --quiet --python $(AIRFLOW)/python --no-deps --no-build-isolation --editable .
	@touch $@

$(VENVS)/dbt/.installed: dbt-requirements.txt $(VENVS)/uv/.installed
	$(call install,dbt,dbt-requirements.txt)
	@touch $@

$(VENVS)/embedded/.installed: embedded-requirements.txt dev-requirements.txt $(VENVS)/uv/.installed
	$(call install,embedded,embedded-requirements.txt dev-requirements.txt)
	@touch $@

$(VENVS)/browser/.installed: browser-requirements.txt $(VENVS)/uv/.installed
	$(call install,browser,browser-requirements.txt)
	@touch $@

$(VENVS)/conformance/.installed: conformance-requirements.txt $(VENVS)/uv/.installed
	$(call install,conformance,conformance-requirements.txt)
	@touch $@

# pandas 2.1 has no wheel for Python 3.13, nor has Superset 6.1, whose clients the others are: there these venvs stay
# empty, and the platform does without dashboards.
.PHONY: install-superset install-clients
install-superset install-clients: install-%: %-requirements.txt $(VENVS)/uv/.installed
	$(call install,$*,$*-requirements.txt)

$(VENVS)/superset/.installed $(VENVS)/clients/.installed: $(VENVS)/%/.installed: %-requirements.txt $(VENVS)/uv/.installed
	@case "$$($(VENVS)/uv/bin/python -V)" in \
		*" 3.13."*) mkdir -p $(VENVS)/$*; echo "No $* on Python 3.13" ;; \
		*) $(MAKE) --no-print-directory install-$* ;; \
	esac
	@touch $@

# Cosmos reads the manifest: parsing a DAG file then costs 0.02 s and starts no dbt. Compiled in it are the serving views,
# which publication pins; no server is asked.
$(MANIFEST): $(DBT_FILES) $(VENVS)/dbt/.installed
	@.ci/with-progress "Parsing the dbt project" \
		$(DBT)/dbt --quiet --no-populate-cache compile --no-introspect --select tag:serving \
		--project-dir $(DBT_PROJECT) --profiles-dir $(DBT_PROJECT) >/dev/null
	@touch $@
