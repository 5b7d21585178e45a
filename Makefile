# Everything a developer runs. `make help` lists it.
SHELL := /bin/bash
.DEFAULT_GOAL := help

# What is stamped into a build. No wall clock: two builds of one commit are the same, byte by byte.
VERSION ?= $(shell git describe --tags --always --dirty 2>/dev/null || echo devel)
REVISION ?= $(shell git rev-parse HEAD 2>/dev/null)
SOURCE_DATE_EPOCH ?= $(or $(shell git log -1 --format=%ct 2>/dev/null),0)
export CGO_ENABLED ?= 0
GO ?= go
# For the program, the tests and the checks alike, so that all share what is compiled; and no build holds a path.
export GOFLAGS := $(strip $(shell $(GO) env GOFLAGS 2>/dev/null) -trimpath)
# Without debug information tests link in half the time, and there are forty programs of them. make verify vets.
GO_TEST := $(GO) test -vet=off -ldflags '-s -w'

.PHONY: help
help: ## list the targets
	@grep -hE '^[a-z-]+:.*?## ' $(MAKEFILE_LIST) | awk -F':.*?## ' '{printf "  %-18s %s\n", $$1, $$2}'

LDFLAGS := -s -w -X main.version=$(VERSION) -X main.revision=$(REVISION) -X main.epoch=$(SOURCE_DATE_EPOCH)

# Where the program goes, and by TARGET for which machine; both are make image's.
BIN ?= bin
TARGET ?=

.PHONY: build
build: ## build bin/evictgate
	$(TARGET) $(GO) build -buildvcs=false -ldflags '$(LDFLAGS)' -o $(BIN)/evictgate ./cmd/evictgate

IMAGE ?= evictgate:dev
ARCH ?= $(shell $(GO) env GOARCH)
NATIVE := $(filter $(shell $(GO) env GOOS)/$(shell $(GO) env GOARCH),linux/$(ARCH))
IMAGE_BIN := $(if $(NATIVE),bin,bin/linux-$(ARCH))

.PHONY: image
image: notices ## build the image $(IMAGE) for ARCH (amd64, arm64, …) with buildah, podman or docker, and bin/image, an OCI layout of it
	@$(MAKE) --no-print-directory sbom BIN=$(IMAGE_BIN) TARGET='$(if $(NATIVE),,GOOS=linux GOARCH=$(ARCH))'
	@VERSION='$(VERSION)' REVISION='$(REVISION)' SOURCE_DATE_EPOCH='$(SOURCE_DATE_EPOCH)' IMAGE='$(IMAGE)' ARCH='$(ARCH)' BIN='$(IMAGE_BIN)' test/suites/image/build.sh

.PHONY: sbom
sbom: build ## write what bin/evictgate is made of to bin/evictgate.spdx.json (SPDX 2.3)
	cd test/tools/release && $(GO) run . sbom ../../../$(BIN)/evictgate >../../../$(BIN)/sbom.new && mv ../../../$(BIN)/sbom.new ../../../$(BIN)/evictgate.spdx.json

.PHONY: notices
notices: ## write the licences of all that is linked to bin/THIRD-PARTY-NOTICES
	@mkdir -p bin
	cd test/tools/release && $(GO) run . notices >../../../bin/notices.new && mv ../../../bin/notices.new ../../../bin/THIRD-PARTY-NOTICES

.PHONY: vuln
vuln: ## look for known vulnerabilities in the code that is called; says so when the database cannot be read
	@test/tools/vuln.sh

.PHONY: run
run: build ## serve the library over a sample cluster and show its answers; no Kubernetes needed
	$(GO) run ./test/tools/tour $(TOUR_FLAGS)

.PHONY: demo
demo: build controlplane ## a real control plane, a budget, a policy, and a kubectl drain that is told why
	$(GO) run ./test/tools/demo

KUBE ?=
.PHONY: controlplane
controlplane: ## build etcd, Kubernetes 1.37 and kwok into bin/, or with KUBE=1.34 that minor into bin/kube-1.34.x (5 to 15 minutes once, then cached)
	@KUBE='$(KUBE)' test/programs/controlplane/build.sh

.PHONY: opa
opa: ## build the opa program, which tests hold the shipped schema to, into bin/ (up to 4 minutes once, then cached)
	@test/programs/program.sh opa

.PHONY: descheduler
descheduler: ## build the descheduler, a client of the tests, into bin/ (up to 4 minutes once, then cached)
	@test/programs/program.sh descheduler

.PHONY: promtool
promtool: ## build promtool, which tests the alert rules, into bin/ (up to 4 minutes once, then cached)
	@test/programs/program.sh promtool

.PHONY: helm
helm: ## build helm, which tests the chart, into bin/ (up to 4 minutes once, then cached)
	@test/programs/program.sh helm

.PHONY: certmanager
certmanager: ## build cert-manager's controllers, which tests have issue certificates, into bin/ (up to 4 minutes once)
	@test/programs/certmanager/build.sh

.PHONY: programs
programs: ## install PostgreSQL, Chromium, buildah, iproute2 and OpenSSL, which tests start, or say what is skipped without them
	@test/tools/install.sh

# The tests that need Go alone. Those among them that want another program are skipped without it, in continuous
# integration as well: test-all runs them there.
QUICK := ./policies/... ./webhook/... ./certs/... ./cmd/... ./test

.PHONY: test
test: ## run the quick tests: what needs Go alone, no control plane, no root and no other programs
	@mkdir -p $(dir $(EVICTGATE_SKIPPED)) && rm -f $(EVICTGATE_SKIPPED)
	CI= $(GO_TEST) -timeout 20m $(QUICK)
	@echo "left out, and run by make test-all: the race detector, a real control plane, the image, installations, attacks, the browser"
	@$(SKIPPED)

# The race detector needs a C compiler; without one these tests run without it. It does not watch SQLite's own code, whose
# every access of memory would be noted: that takes half of the time, and a database has one owner.
RACE := $(if $(shell command -v $${CC:-gcc} 2>/dev/null),CGO_ENABLED=1 $(GO_TEST) -race -gcflags='modernc.org/...=-race=false')

# Nothing runs at once in these; make test has them.
SEQUENTIAL := /policies/(check|suite|internal/.*|v1alpha1)$$

# These count evictions that get no decision: nothing beside them may take the processors away. Those of APART wait most
# of the time, and do each other no harm. ATTACKS are shortened here and judge no latency, but for FLOODS; make attack does
# it for all.
ALONE := /test/suites/(faults|install)$$
ATTACKS := /test/suites/attack$$
APART := /test/suites/(certificates|registration)$$
FLOODS := TestAttack/(H4_(reviews|hang_up)|H5_(large_reviews|many_annotations|unread_stdout)|L13_(slow|idle|large|overview))

# Tests that repeat one thing, as often as it was promised.
LARGE := TestAWeekOfDecisions|TestReloadsUnderLoad|TestLargePoliciesLoad

# Where tests start programs, go test does not know what their results come from: an earlier one is not taken again.
FRESH := $(GO_TEST) -count=1 -timeout 20m

# Tests write here what they skip, which go test does not print.
export EVICTGATE_SKIPPED := $(CURDIR)/bin/skipped
SKIPPED = test ! -e $(EVICTGATE_SKIPPED) || { echo "skipped:"; cat $(EVICTGATE_SKIPPED); }

.PHONY: test-programs
test-programs: build controlplane descheduler opa promtool helm certmanager programs ## build all that tests start, the image included
	$(if $(RACE),,@echo "no C compiler found: the tests run without the race detector; install gcc to have it")
	$(if $(shell test/suites/image/build.sh which),@$(MAKE) --no-print-directory image,@echo "no image builder: the tests of the image and of the installation are skipped")

STAGES := test-cluster test-certificates test-installation test-attacks test-release test-race test-large test-browser

.PHONY: test-all $(STAGES)
test-all: test-programs ## run all tests, those on a real control plane included: what continuous integration runs
	@rm -f $(EVICTGATE_SKIPPED)
	@failed=; for stage in $(STAGES); do \
	  TIMEFORMAT="$$stage took %0R s, and of the processors %0U + %0S s"; \
	  time $(MAKE) --no-print-directory $$stage || failed="$$failed $$stage"; \
	done; $(SKIPPED); [ -z "$$failed" ] || { echo "failed:$$failed" >&2; exit 1; }

test-cluster: ## of test-all, the suites on a control plane that do each other no harm; like all of these, after make test-programs
	$(FRESH) $(shell $(GO) list ./cmd/... ./test/... | grep -vE '$(ALONE)|$(APART)|$(ATTACKS)')

test-certificates: ## of test-all, certificates that are renewed and an API server that is restarted
	$(FRESH) -p 2 $(shell $(GO) list ./test/... | grep -E '$(APART)')

test-installation: ## of test-all, installations whose parts fail or are replaced while pods are evicted
	$(FRESH) -p 1 $(shell $(GO) list ./test/... | grep -E '$(ALONE)')

test-attacks: ## of test-all, attacks by somebody without rights
	$(FRESH) $(shell $(GO) list ./test/... | grep -E '$(ATTACKS)') -quick -skip '$(FLOODS)'
	$(FRESH) $(shell $(GO) list ./test/... | grep -E '$(ATTACKS)') -run '$(FLOODS)'

test-release: ## of test-all, what is shipped: OPA's view of the schema, licences, alerts and the dashboard
	cd test/programs/opa && $(FRESH) ./...
	cd test/tools/release && $(FRESH) ./...
	cd test/suites/monitoring && $(FRESH) ./...

test-race: ## of test-all, the quick tests with the race detector
	$(or $(RACE),$(GO_TEST)) -timeout 20m $(shell $(GO) list ./policies/... ./webhook/... ./certs/... | grep -vE '$(SEQUENTIAL)')

test-large: ## of test-all, what the quick tests repeat less often than promised
	EVICTGATE_TESTS=whole $(GO_TEST) -timeout 20m -run '$(LARGE)' ./policies ./webhook ./webhook/review/replay

test-browser: ## of test-all, the review page in Chromium
	cd test/suites/browser && $(FRESH) ./...

.PHONY: screenshot
screenshot: ## draw docs/images/review.png with Chromium
	cd test/suites/browser && $(GO) test . -count=1 -run TestReadme -picture ../../../docs/images/review.png

.PHONY: conformance
conformance: controlplane ## compare 100,000 predicted answers with a real API server's (about 20 minutes)
	$(GO) test ./test/suites/conformance -v -run TestPredict -cases 100000 -timeout 80m

.PHONY: faults
faults: controlplane programs ## restart, kill and stop parts of an installation while pods are evicted, and write docs/faults.md and the table of docs/operate.md (6 minutes)
	$(GO) test ./test/suites/faults -count=1 -v -timeout 20m -run TestFaults -update
	$(GO) test ./test -run TestTheFailureTable -update

.PHONY: attack
attack: controlplane ## attack the program as somebody without rights, and write docs/security-figures.md (20 minutes)
	$(GO) test ./test/suites/attack -count=1 -v -timeout 40m -update

.PHONY: fuzz
fuzz: ## fuzz every parser for FUZZTIME (60s), one after the other; what is found is kept in testdata/fuzz
	@test/tools/fuzz.sh

.PHONY: bench
bench: build ## measure against a no-op webhook, as ratios in one run, beside the bars
	$(GO) run ./test/tools/bench

BENCH_RECORDS ?= 1000000
.PHONY: bench-store
bench-store: ## fill a store of BENCH_RECORDS records, and measure what the review asks of it
	$(GO) run ./test/tools/storebench -records $(BENCH_RECORDS) $(BENCH_STORE_FLAGS)

CONTROLLER_GEN := sigs.k8s.io/controller-tools/cmd/controller-gen@v0.23.0

.PHONY: generate
generate: ## regenerate what is derived from the code
	$(GO) run $(CONTROLLER_GEN) object crd paths=./policies/v1alpha1 output:crd:artifacts:config=config/crd
	$(GO) test ./policies -run TestShipped -update
	$(GO) test ./policies/internal/limits -run TestLimitsPage -update
	$(GO) test ./webhook -run TestSampleRecords -update
	$(GO) test ./webhook/record -run TestShipped -update
	$(GO) test ./test -run 'TestThePrometheusRule|TestPagesFromComments|TestTheMetricsPage' -update
	$(GO) test ./cmd/evictgate -run 'TestReference|TestManifestRules' -update

.PHONY: verify
verify: ## formatting, vet, lint, licences, generated files and go.mod are as they should be
	test/tools/verify.sh

.PHONY: clean
clean: ## remove what was built
	rm -rf bin
