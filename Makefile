# Each target is one script of tools/; `make` alone says which there are.
PYTHON ?= python3
DEMO_PYTHON = $(PYTHON) tools/environment.py demo

# The values stay as they were typed (a password may hold a dollar sign) and travel by environment, never by argv.
ifdef DSN
override export DSN := $(value DSN)
endif
ifdef STORE
override export STORE := $(value STORE)
endif

.DEFAULT_GOAL := help
.PHONY: help demo try test test-unit lint bench tree build lock clean

help: ## Show these targets
	@sed -nE 's/^([a-z-]+):.*## (.*)/  make \1\t\2/p' $(MAKEFILE_LIST) | expand -t 20

demo: ## Back up, prove, restore, switch and undo a real database made for it (3 minutes)
	@python=$$($(DEMO_PYTHON)) && exec "$$python" tools/demo.py

try: ## Look at your own database, read only: make try DSN=postgresql://me@host/name
	@python=$$($(DEMO_PYTHON)) && exec "$$python" tools/try_database.py

test: ## Everything that must hold before a change is merged
	@exec $(PYTHON) tools/check.py

test-unit: ## The quick round: style, imports and unit tests
	@exec $(PYTHON) tools/check.py --fast

lint: ## Style, types and direction of imports, without a test
	@exec $(PYTHON) tools/check.py --only ruff,format,yamllint,ansible-lint,mypy,imports,changelog

bench: ## Measure backup and restore against what they replace
	@python=$$($(DEMO_PYTHON)) && exec "$$python" benchmarks/run.py

tree: ## Lay the files out as ansible_collections/saasops/runbook
	@$(PYTHON) tools/tree.py

build: tree ## Build the archive that ansible-galaxy installs
	@python=$$($(DEMO_PYTHON)) && exec "$${python%python}ansible-galaxy" collection build --force ansible_collections/saasops/runbook

lock: ## Pin the newest packages that requirements/*.in allow
	@exec $(PYTHON) tools/lock.py

clean: ## Remove what was made here: environments, caches, the laid-out tree
	rm -rf .cache ansible_collections saasops-runbook-*.tar.gz
