# `make help` lists what there is; it is what plain `make` does.

CARGO ?= cargo
PYTHON ?= python3
TOOLS := .tools
# The virtual environment of the Python package, and its programs.
PY := $(TOOLS)/python/bin
# The same of the documentation and the workflows.
DOCS := $(TOOLS)/docs/bin
# The same of what tries a server by its document.
OPENAPI := $(TOOLS)/openapi/bin
PYTHON_CODE := python e2e_test example examples/embeddings examples/training scripts/dist tests/containers tests/dist tests/docs tests/openapi tests/proxies tests/pythons tests/release
DENY := $(TOOLS)/bin/cargo-deny
TYPOS := $(TOOLS)/bin/typos
FUZZ := $(TOOLS)/bin/cargo-fuzz
FUZZ_VERSION := 0.13.2
MUTANTS_VERSION := 27.1.0
MUTANTS := $(TOOLS)/mutants-$(MUTANTS_VERSION)/bin/cargo-mutants

# The features with which everything is tested; the same everywhere, so that
# the SDK is built once. What is built alone has a feature `test-build`, or
# haulage-servers beside it, which switch on what tests do.
AWS := haulage-cli/aws,haulage-autoscale/lambda

# Where cargo builds, wherever that is set.
BUILT = $(shell $(CARGO) metadata --format-version 1 --no-deps | sed 's/.*"target_directory":"\([^"]*\)".*/\1/')

# This machine, as Rust calls it.
HOST = $(shell $${RUSTC:-rustc} --version --verbose | sed -n 's/^host: //p')

.DEFAULT_GOAL := help
.PHONY: help program e2e-local test-wheel test-pythons pytest docs-commands rust-rest book lint-workflows lint-python lint-links lint-release lint-spelling test-outside build demo test docs docs-tools docs-wheel test-docs test-docs-http tmp mutants test-bare test-python python-tools wheel dist test-dist dist-host test-shipped test-dist-plain demo-python example stack test-containers bench-python test-full test-root test-servers tools lint deny audit doc bench bench-quick bench-size bench-http bench-verbs bench-aws soak-aws fmt clean bench-scaling test-scaling lambda bench-lambda test-terraform test-scaled test-clients test-openapi test-pages test-proxies screenshots costs fuzz fuzz-quick

help: ## List these targets
	@awk -F ':.*## ' '/^[a-z0-9-]+:.*## / { printf "  make %-15s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

# Looks for what a target needs before anything is compiled.
need-%:
	@CARGO=$(CARGO) PYTHON=$(PYTHON) tests/requirements.sh $(subst -, ,$*)

# What they keep of what they fetch stays in the clone.
export PIP_CACHE_DIR := $(CURDIR)/$(TOOLS)/cache/pip
export npm_config_cache := $(CURDIR)/$(TOOLS)/cache/npm
export UV_CACHE_DIR := $(CURDIR)/$(TOOLS)/cache/uv
export PRE_COMMIT_HOME := $(CURDIR)/$(TOOLS)/cache/pre-commit

# Where tests leave what they do not need any more, rather than in /tmp.
test lint-release test-shipped test-python test-docs test-docs-http test-servers test-scaled test-clients test-openapi test-pages test-proxies test-pythons e2e-local: export TMPDIR = $(CURDIR)/$(TOOLS)/tmp
tmp:
	@mkdir -p $(TOOLS)/tmp
# The folder stays for the target that comes next.
TIDY = find $(TOOLS)/tmp -mindepth 1 -delete

build: need-rust ## Build everything, for debugging
	$(CARGO) build --workspace --exclude haulage-python --all-targets

# The programs that tests run, the scaling Lambda's as well.
program: need-rust
	$(CARGO) build --quiet --package haulage-cli --package haulage-servers --package haulage-autoscale --features $(AWS)

demo: need-rust ## Classify 1,797 handwritten digits through a real queue, and show accuracy and speed
	$(CARGO) run --release --package haulage-digits --bin demo

# Once all is built, what waits more than it computes goes side by side.
test: need-rust-lint-python-lanes tmp lint deny doc tools test-wheel book docs-wheel program ## Check all that needs only Rust, a C compiler and Python 3.10
	$(CARGO) test --quiet --workspace --features $(AWS) --no-run
	tests/timed.sh "$(LONGEST) + pytest docs-commands rust-rest"
	@$(TIDY)

# The tests that take minutes, by their names.
LONGEST := rust-local + rust-cli rust-aws + rust-crash rust-wire
# They wait for SQS.
rust-local: AT_ONCE := --test-threads 6
rust-%:
	$(CARGO) test --workspace --features $(AWS) --test $* -- $(AT_ONCE)

# Whatever else cargo finds. The library of the Python package, which --lib would test as well,
# links only where Python's is installed.
OTHERS = $(basename $(notdir $(wildcard */*/tests/*.rs) $(patsubst %/main.rs,%,$(wildcard */*/tests/*/main.rs))))
rust-rest:
	$(CARGO) test --workspace --exclude haulage-python --features $(AWS) --lib --bins $(addprefix --test ,$(filter-out $(LONGEST:rust-%=%),$(sort $(OTHERS))))
	$(CARGO) test --workspace --features $(AWS) --doc

test-python: need-rust-python tmp lint-python tools test-wheel pytest ## Check the Python package: its wheel, types, and tests, those on a server in place of AWS, too
	@$(TIDY)

# As it is tested, rather than as it is shipped: compiled quickly.
test-wheel: python-tools
	rm -rf $(TOOLS)/test-wheel
	$(PY)/maturin build --quiet --profile dev --features test-build --manifest-path python/Cargo.toml --out $(TOOLS)/test-wheel
	$(PY)/pip install --quiet --no-deps --force-reinstall $(TOOLS)/test-wheel/haulage-*.whl

test-pythons: need-rust-python tmp test-wheel ## Try the wheel on each Python from 3.9 to 3.14 that is here; PYTHONS="3.9 3.14" has to have those
	$(PY)/python tests/pythons/run.py $(TOOLS)/test-wheel/haulage-*.whl $(PYTHONS)

pytest:
	cd python && ../$(PY)/mypy
	cd python && ../$(PY)/pyright --pythonpath ../$(PY)/python
	cd python && ../$(PY)/pytest --quiet

test-docs: need-rust-python tmp book docs-wheel program docs-commands ## Check the documentation: its links, and its commands, each of which is run or says why not

docs-commands:
	$(DOCS)/python tests/docs/book.py $(TOOLS)/book --check
	$(DOCS)/python tests/docs/test.py "$(BUILT)/debug/haulage" $(DOCS)/python

test-docs-http: need-rust-python-curl-jq tmp docs-tools program ## What needs curl and jq: the calls of a server, as its documentation shows them
	$(DOCS)/python tests/docs/test.py "$(BUILT)/debug/haulage" $(DOCS)/python docs/serve.md

test-openapi: need-rust-python tmp program ## Send a server what its /openapi.json allows and what it forbids, with schemathesis, in a minute
	PYTHON=$(PYTHON) tests/install.sh openapi
	$(OPENAPI)/python tests/openapi/run.py "$(BUILT)/debug/haulage"

docs: need-rust-python book docs-wheel ## Build the book, with the Rust and Python API, into .tools/book/html
	RUSTDOCFLAGS="--deny warnings" $(CARGO) doc --quiet --package haulage --package haulage-aws --package haulage-autoscale --package haulage-http --no-deps --all-features
	mkdir -p $(TOOLS)/book/html/api
	cp -R "$(BUILT)/doc" $(TOOLS)/book/html/api/rust
	$(DOCS)/pdoc --output-directory $(TOOLS)/book/html/api/python haulage
	$(DOCS)/python tests/docs/book.py $(TOOLS)/book --check
	@echo "the book is $(CURDIR)/$(TOOLS)/book/html/index.html"

# Its pages alone.
book: docs-tools
	$(DOCS)/python tests/docs/book.py $(TOOLS)/book
	MDBOOK_LOG=warn $(DOCS)/mdbook build $(TOOLS)/book

docs-tools: need-python
	PYTHON=$(PYTHON) tests/install.sh docs

docs-wheel: test-wheel docs-tools
	$(DOCS)/pip install --quiet --no-deps --force-reinstall $(TOOLS)/test-wheel/haulage-*.whl

lint-python: python-tools
	$(PY)/ruff format --check --config python/pyproject.toml $(PYTHON_CODE)
	$(PY)/ruff check --config python/pyproject.toml $(PYTHON_CODE)

python-tools: need-python
	PYTHON=$(PYTHON) python/install-tools.sh

wheel: need-rust-python python-tools ## Build the Python wheel as it is shipped, AWS included, into .tools/wheels
	rm -rf $(TOOLS)/wheels
	CARGO=$(CARGO) $(PYTHON) scripts/dist/licenses.py wheel python/licenses/THIRD-PARTY.txt $(HOST)
	$(PY)/maturin build --quiet --release --features aws --manifest-path python/Cargo.toml --out $(TOOLS)/wheels
	$(PY)/pip install --quiet --no-deps --force-reinstall $(TOOLS)/wheels/haulage-*.whl

# For which targets; all of Linux where none is named.
dist: need-rust-python ## Make the programs, wheels and Lambdas of a release into dist; DIST_TARGETS="aarch64-unknown-linux-musl …" for some
	PYTHON=$(PYTHON) CARGO=$(CARGO) scripts/dist/build.sh $(DIST_TARGETS)

# For this machine alone: each of the two takes minutes to build.
test-dist: dist-host ## What needs root: what is shipped for this machine is small, starts fast, and works on its own
	$(MAKE) --no-print-directory test-shipped

dist-host: need-rust-python-root
	PYTHON=$(PYTHON) CARGO=$(CARGO) nice -n 10 scripts/dist/build.sh $(HOST)

# What dist-host has left; a start is timed, so with nothing beside it.
test-shipped: tmp
	$(PY)/pytest --quiet tests/dist
	@$(TIDY)

test-dist-plain: need-rust-python ## The program without AWS, as it is shipped, is smaller still
	program=$$(CARGO=$(CARGO) PYTHON=$(PYTHON) scripts/dist/program.sh $(HOST)) \
		&& $(PYTHON) tests/dist/without_aws.py "$$program"

bench-python: wheel ## Measure the Python package beside the Rust worker
	$(CARGO) build --release --package haulage-cli
	$(PY)/python python/benches/overhead.py $(BUILT)/release/haulage $(TOOLS)/wheels/haulage-*.whl

demo-python: need-rust-python python-tools ## Embed sentences with a small language model, by two workers in Python, and train through interruptions
	rm -rf $(TOOLS)/wheels
	$(PY)/maturin build --quiet --release --manifest-path python/Cargo.toml --out $(TOOLS)/wheels
	$(PY)/pip install --quiet --no-deps --force-reinstall $(TOOLS)/wheels/haulage-*.whl
	$(PY)/pip install --quiet --no-deps --require-hashes --requirement examples/embeddings/requirements.txt
	$(PY)/python examples/embeddings/demo.py
	$(PY)/python examples/training/demo.py

example: wheel tools ## Run the example without containers, on local servers and on a SQLite file
	$(PY)/python example/run.py

stack: ## Start the local stack in containers: SQS, DynamoDB, a page that shows the table, and a consumer
	example/stack.sh up --build --timeout 60

# With what is shipped, made of what is here now, unless that has just been made (DIST_MADE).
# The scaling Lambda's program is as it is for tests.
test-containers: need-rust-python-root-debian program ## As root, with Docker or on Debian, where it is installed: the images, the local stack and a service of ECS, end to end
	[ -n "$$DIST_MADE" ] || [ -n "$$PROGRAM" -a -n "$$WHEEL" ] || $(MAKE) --no-print-directory dist DIST_TARGETS=$(HOST)
	LAMBDA="$(BUILT)/debug/haulage-autoscale" PYTHON=$(PYTHON) tests/containers/engine.sh $(PYTHON) tests/containers/run.py

# In this order, whatever `-j` says: what is missing is told first. Cargo uses
# all cores by itself.
.NOTPARALLEL:

# Side by side, tests that wait for a third of their time and what compiles and links for minutes,
# which lets them go first (`nice`); then alone what is timed; then side by side what waits more than
# it computes, with what test-bare has compiled. Crates are fetched before, as test-bare copies them.
test-full: need-rust-lint-python-lanes-node-java-curl-jq-systemd-root-debian-apt python-tools ## All checks: those that need root, systemd, Java, Node.js, curl and jq, and make demo and make test on a bare machine
	$(CARGO) fetch --quiet --locked
	DIST_MADE=yes tests/timed.sh "test-bare + dist-host + test-terraform" test-shipped \
		"test-containers test-pages test-proxies test-root test-openapi + test-docs-http test-scaled test-clients test-servers"

test-bare: need-rust-lint-root-debian ## As root: make demo and make test on a minimal Debian, with what they require and nothing else
	tests/bare/run.sh

test-servers: need-rust-python-node-java tmp ## What needs Java, or long: the AWS backend on Amazon's DynamoDB Local, and behind a server
	tests/servers/install.sh ministack dynamodb-local
	$(CARGO) test --workspace --features $(AWS) --test local -- --ignored

test-terraform: need-python-node ## What needs Node.js, on Linux on x86-64: the Terraform, up to an apply on an emulator of AWS
	PYTHON=$(PYTHON) terraform/tests/install.sh
	$(TOOLS)/terraform/venv/bin/python terraform/tests/ladder.py

test-scaled: need-rust-python-node tmp tools program ## An apply, jobs that a worker does, out, in and a destroy on that emulator, with the programs themselves
	PYTHON=$(PYTHON) terraform/tests/install.sh
	$(TOOLS)/terraform/venv/bin/python terraform/tests/scaled.py $(BUILT)/debug/haulage-autoscale $(BUILT)/debug/haulage

test-clients: need-rust-node tmp program ## A client in TypeScript that is generated from /openapi.json submits, waits and cancels
	tests/typescript/run.sh $(BUILT)/debug/haulage

test-pages: need-rust-node tmp program ## The pages of a server in Chromium: what a person does with them, by keyboard, narrow, dark, without a script
	tests/browser/run.sh $(BUILT)/debug/haulage

screenshots: need-rust-node tmp program ## Make the pictures of those pages in docs/images
	tests/browser/run.sh $(BUILT)/debug/haulage screenshots

e2e-local: need-rust-python-node tmp test-wheel ## The test of a deployed pipeline, end to end: on an emulator of AWS, with the example as its handler
	PYTHON=$(PYTHON) terraform/tests/install.sh
	PYTHON=$(PYTHON) e2e_test/install.sh $(TOOLS)/test-wheel/haulage-*.whl
	$(TOOLS)/terraform/venv/bin/python e2e_test/local.py $(TOOLS)/e2e/bin/python
	@$(TIDY)

# For how long, and which targets; all of them where none is named.
fuzz: SECONDS := 600
fuzz-quick: SECONDS := 10
fuzz fuzz-quick: need-rust-python-cxx $(FUZZ)
	CARGO_FUZZ=$(FUZZ) PYTHON=$(PYTHON) fuzz/run.sh $(SECONDS) $(TARGET)
fuzz: ## Try hostile input on what reads it, ten minutes a target: `make fuzz SECONDS=60 TARGET="message url"`
fuzz-quick: ## What needs a C++ compiler: the same for ten seconds each

# A release build of its own: the tool is small, and shares nothing with the rest.
$(FUZZ):
	$(CARGO) install --quiet --locked --root $(TOOLS) cargo-fuzz --version $(FUZZ_VERSION)

tools: need-python ## Install the local servers that stand in for AWS in tests
	PYTHON=$(PYTHON) tests/servers/install.sh ministack

test-root: need-rust-python-root-systemd program ## What needs root: a disk that is full, mounts, other users, a container without an init, units of systemd
	tests/root/disk-full.sh "$(BUILT)/debug/haulage"
	tests/root/first-process.sh "$(BUILT)/debug/haulage"
	tests/root/sharing.sh "$(BUILT)/debug/haulage"
	PYTHON=$(PYTHON) tests/root/units.sh "$(BUILT)/debug/haulage"

test-proxies: need-rust-python-curl-root-apt tmp program ## As root, on Debian: try a server behind nginx, and behind Caddy
	$(PYTHON) tests/proxies/run.py "$(BUILT)/debug/haulage"
	@$(TIDY)

lint: need-rust-lint-python lint-spelling lint-python lint-workflows ## Formatting, spelling, workflows, what is published, and clippy with warnings denied
	$(CARGO) fmt --all --check
	$(CARGO) clippy --workspace --all-targets --all-features -- --deny warnings
	$(CARGO) clippy --package haulage --no-default-features -- --deny warnings
	$(CARGO) clippy --package haulage-cli -- --deny warnings
	$(MAKE) --no-print-directory lint-release

lint-spelling: $(TYPOS)
	$(TYPOS)

# A part of test-docs that needs nothing built.
lint-links: docs-tools
	$(DOCS)/python tests/docs/test.py --links

# In seconds: the crates as they are published, and the list of changes. After what fetches crates.
lint-release: need-rust tmp python-tools
	CARGO=$(CARGO) $(PY)/pytest --quiet tests/release

# Each night: other sites come and go.
test-outside: docs-tools ## Follow the links of the documentation to other sites
	$(DOCS)/python tests/docs/test.py --outside

# Their form, the expressions and shell lines in them, what they may do, and what they use; and the
# form of the hooks before a commit.
lint-workflows: docs-tools
	$(DOCS)/actionlint .github/workflows/*.yml examples/deploy/*.yml
	if [ -x $(DOCS)/zizmor ]; then \
		$(DOCS)/zizmor --offline --quiet --no-progress --config .github/zizmor.yml .github examples/deploy/deploy.yml; \
	else \
		echo "zizmor needs Python 3.11, and was left out"; \
	fi
	$(DOCS)/python tests/docs/dependabot.py
	$(DOCS)/pre-commit validate-config .pre-commit-config.yaml

doc: need-rust ## Build the documentation, with warnings denied
	RUSTDOCFLAGS="--deny warnings" $(CARGO) doc --workspace --no-deps --all-features

deny: $(DENY) ## Licences, sources and duplicates of the dependencies
	$(DENY) --all-features check bans licenses sources

audit: $(DENY) ## Known vulnerabilities of the dependencies; needs access to github.com
	$(DENY) --all-features check advisories

$(DENY) $(TYPOS): scripts/lint-requirements.txt | need-python
	$(PYTHON) -m venv $(TOOLS)
	$(TOOLS)/bin/pip install --quiet --disable-pip-version-check --require-hashes --requirement $<
	@touch $@

mutants: need-rust-python $(MUTANTS) ## See whether the tests notice hundreds of changes to the code, in hours; FILES="retry.rs" or SHARD=0/8 for a part
	$(PYTHON) tests/mutants/run.py $(MUTANTS) --files "$(FILES)" --shard "$(SHARD)"

$(MUTANTS):
	$(CARGO) install --quiet --root $(TOOLS)/mutants-$(MUTANTS_VERSION) --locked --version $(MUTANTS_VERSION) cargo-mutants

bench: PROFILE := release
bench: need-rust ## Measure throughput and latency beside their floors, in about three minutes; PROFILE=dist as it is shipped
	$(CARGO) run --profile $(PROFILE) --package haulage-cli -- bench

bench-quick: need-rust ## A first impression of the same in under 40 seconds
	$(CARGO) run --release --package haulage-cli -- bench --quick

bench-size: need-rust ## What millions of records, large bodies, long readers and idle crowds cost, in some minutes
	$(CARGO) run --release --package haulage-cli -- bench --size

bench-http: need-rust ## What a server costs: throughput, latency, idle workers and waits through it, beside the same without
	$(CARGO) run --release --package haulage-cli -- bench --http

bench-verbs: need-rust ## What single verbs of the backends cost, with criterion
	$(CARGO) bench --package haulage

bench-aws: need-rust-node ## Count the requests and the cost of a job on AWS, and measure speed on local servers; needs Node.js
	tests/servers/install.sh fauxqs dynoxide
	$(CARGO) build --release --package haulage-servers --bin with-servers
	$(CARGO) build --release --package haulage-cli --features aws
	$(BUILT)/release/with-servers fauxqs dynoxide -- $(BUILT)/release/haulage --url sqs://bench.fifo bench --json

soak-aws: MINUTES := 30
soak-aws: need-rust-python tools ## Kill workers of the AWS backend on local servers for half an hour, through outages and lost answers; MINUTES=60 for longer
	HAULAGE_SOAK_MINUTES=$(MINUTES) $(CARGO) test --workspace --features $(AWS),haulage-aws-crash/soak --test crash soak -- --nocapture

lambda: need-rust-python-musl ## Build the scaling Lambda for arm64 and x86_64, as zips in .tools/lambda
	PYTHON=$(PYTHON) CARGO=$(CARGO) crates/haulage-autoscale/package/build.sh

bench-lambda: lambda tools ## Measure the scaling Lambda: size, cold start, memory
	$(CARGO) build --package haulage-servers --bin bench-lambda
	$(BUILT)/debug/bench-lambda $(TOOLS)/lambda

costs: need-python ## Print what a pipeline on AWS costs while it is idle, as docs/deploy.md shows it
	$(PYTHON) terraform/tests/costs.py

test-scaling: need-rust ## Compare the rest of docs/scaling.md with what is simulated: all seeds, and where ours is worse; in minutes
	$(CARGO) test --workspace --features $(AWS) --test cli -- --ignored simulate

bench-scaling: need-rust ## Simulate scaling policies on all shipped traces, as docs/scaling.md shows them; the last line is JSON
	$(CARGO) run --release --package haulage-cli -- simulate all
	$(CARGO) run --release --package haulage-cli -- simulate all --compare
	for slots in 1 4; do \
		$(CARGO) run --quiet --release --package haulage-cli -- simulate all --compare --worse --concurrency $$slots || exit 1; \
	done
	for scaler in direct alarms; do for slots in 1 4; do for seed in 1 2 3; do \
		echo "$$scaler, $$slots slots, seed $$seed" && \
		$(CARGO) run --quiet --release --package haulage-cli -- simulate all --compare --summary \
			--scaler $$scaler --concurrency $$slots --seed $$seed || exit 1; \
	done; done; done
	$(CARGO) run --release --package haulage-cli -- --json simulate all --compare --summary

fmt: ## Format the code
	$(CARGO) fmt --all

clean: ## Delete what was built and installed
	$(CARGO) clean
	rm -rf $(TOOLS) dist
